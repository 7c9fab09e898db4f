//! bailiwick-log
