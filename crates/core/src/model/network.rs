//! The network that something came from: so much of an address as tells one place from another, and no more.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network: the first 24 bits of an IPv4 address, the first 48 of an IPv6 one. Who is behind it is not told, and the rest of the
/// address is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

/// A text that names no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network of 24 or 48 bits")]
pub struct NotANetwork;

impl Network {
    /// The network of an address; of an IPv6 address that carries an IPv4 one, the latter's.
    pub fn of(address: IpAddr) -> Self {
        match crate::address::meant(address) {
            IpAddr::V4(address) => Self(IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8)))),
            IpAddr::V6(address) => Self(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)))),
        }
    }

    /// Whether the address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        Self::of(address) == self
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 48 })
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = text.split_once('/').ok_or(NotANetwork)?;
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let is_whole = bits == if address.is_ipv4() { "24" } else { "48" };
        Some(Self::of(address)).filter(|network| is_whole && network.0 == address).ok_or(NotANetwork)
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_no_more_is_kept_than_its_network() {
        for (address, network) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
            ("127.0.0.1", "127.0.0.0/24"),
        ] {
            let made = Network::of(address.parse().unwrap());
            assert_eq!(made.to_string(), network);
            assert_eq!(network.parse(), Ok(made));
            assert!(made.contains(address.parse().unwrap()));
        }
        for wrong in ["192.0.2.1/24", "192.0.2.0/16", "192.0.2.0", "x/24", "2001:db8:1:2::/48"] {
            assert_eq!(wrong.parse::<Network>(), Err(NotANetwork), "{wrong}");
        }
    }
}
