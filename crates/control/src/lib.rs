//! bailiwick-control
