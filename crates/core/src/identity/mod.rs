//! Identity: who is acting, proven. Pure: keys, time and randomness are handed in.
//!
//! [`Authenticator`] answers for each request to the gateway; the token service is built from the other parts.

pub mod assertion;
mod authenticator;
pub mod aws;
pub mod client;
pub mod dpop;
mod grant;
pub mod jws;
mod key;
pub mod outbound;
pub mod platform;
mod refusals;
mod replay;
pub mod spiffe;
mod token;
pub mod why;

pub use authenticator::{Authenticated, Authenticator, ClientCertificate, Known, Presented, Unauthenticated};
pub use grant::{Admission, Grant, InvalidGrant};
pub use key::{Algorithm, InvalidKey, KeySet, PublicKey, Signer, SigningFailed, thumbprint};
pub use refusals::Refusals;
pub(crate) use replay::id as use_id;
pub use replay::{Replayed, Replays, Room};
pub use token::{AccessToken, DelegationToken, act};

#[cfg(test)]
mod tests;
