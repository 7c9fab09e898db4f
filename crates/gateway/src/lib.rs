//! bailiwick-gateway
