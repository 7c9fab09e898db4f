//! Identity: who is acting, proven. Pure: keys, time and randomness are handed in.

mod authenticated;
mod grant;

pub use authenticated::Authenticated;
pub use grant::{Admission, Grant, InvalidGrant};
