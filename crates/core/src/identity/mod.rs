//! Identity: who is acting, proven. Pure: keys, time and randomness are handed in.

mod grant;

pub use grant::{Admission, Grant, InvalidGrant};
