//! Network addresses by whom they lead to: everybody, this house, this machine, or what hands out a host's own credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Where clouds answer with a host's own credentials, beside the link-local 169.254.169.254: Alibaba Cloud's and Azure's, then
/// Amazon's and Google's.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 2] = [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Whether what a bundle names may have this address: any of a single host but those that hand out a host's own credentials.
/// One of this machine too, which the caller allows only where the bundle writes so.
pub fn may_lead_to(address: IpAddr) -> bool {
    match meant(address) {
        IpAddr::V4(address) => {
            let nobody = address.is_unspecified() || address.is_link_local() || address.is_multicast() || address.is_broadcast();
            !(nobody || METADATA_V4.contains(&address))
        }
        IpAddr::V6(address) => {
            let link_local = (address.segments().first().copied().unwrap_or_default() & 0xffc0) == 0xfe80;
            !(address.is_unspecified() || link_local || address.is_multicast() || METADATA_V6.contains(&address))
        }
    }
}

/// The address that is meant: an IPv6 one that carries an IPv4 one leads there (mapped, compatible, NAT64, 6to4).
pub fn meant(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let [a, b, c, d, e, f, g, h] = six.segments();
    let four = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => four(g, h),
        (0, 0, 0, 0, 0, 0) if g != 0 => four(g, h),
        (0x2002, ..) => four(b, c),
        _ => address,
    }
}

/// A block of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    first: IpAddr,
    bits: u8,
}

/// A text that is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no block of addresses")]
pub struct NotABlock;

impl FromStr for Block {
    type Err = NotABlock;

    /// An address, or one and the number of bits that are fixed; bits beyond those are zero.
    fn from_str(text: &str) -> Result<Self, NotABlock> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first: IpAddr = address.parse().map_err(|_| NotABlock)?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| NotABlock)?;
        let block = Self { first, bits };
        if bits <= most && block.contains(first) && block.begins() == first { Ok(block) } else { Err(NotABlock) }
    }
}

impl Block {
    /// Whether the address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.first, address, meant(address)) {
            (IpAddr::V4(first), _, IpAddr::V4(address)) => (first.to_bits() ^ address.to_bits()) & self.mask_v4() == 0,
            (IpAddr::V6(first), IpAddr::V6(address), _) => (first.to_bits() ^ address.to_bits()) & self.mask_v6() == 0,
            _ => false,
        }
    }

    fn begins(self) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() & self.mask_v4()).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() & self.mask_v6()).into(),
        }
    }

    fn mask_v4(self) -> u32 {
        u32::MAX.checked_shl(32_u32.saturating_sub(self.bits.into())).unwrap_or(0)
    }

    fn mask_v6(self) -> u128 {
        u128::MAX.checked_shl(128_u32.saturating_sub(self.bits.into())).unwrap_or(0)
    }
}

/// Where a request came from that arrived from `peer`: from there, unless that is one of the declared `proxies`. Of what those say
/// (`X-Forwarded-For`, one text for each time the header stands there), the last address counts that is no proxy's; what stands
/// before it, anybody may have written. Nothing where a proxy does not say.
pub fn came_from<'h>(peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'h str>, proxies: &[Block]) -> Option<IpAddr> {
    let is_proxy = |address: IpAddr| proxies.iter().any(|block| block.contains(address));
    if !is_proxy(peer) {
        return Some(peer);
    }
    for hop in forwarded.rev().flat_map(|text| text.rsplit(',')) {
        let hop = hop.trim();
        let bare = hop.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
        let address = bare.unwrap_or(hop).parse().ok().or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))?;
        if !is_proxy(address) {
            return Some(address);
        }
    }
    None
}

/// Whether an address is none of those with a special use (RFC 6890 and the IANA registries that it made).
pub fn is_public(address: IpAddr) -> bool {
    // An address that carries an IPv4 one may lead there.
    match meant(address) {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            (first & 0xe000) == 0x2000 && !(first == 0x2001 && second < 0x0200) && !(first == 0x2001 && second == 0x0db8) && first != 0x3fff
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a == 10
        || a == 127
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_proxy_only_what_a_declared_one_adds_is_believed() {
        let proxies: Vec<Block> = ["10.0.0.0/8", "fd00::/8", "192.0.2.1"].iter().map(|block| block.parse().unwrap()).collect();
        let from =
            |peer: &str, said: &[&str]| came_from(peer.parse().unwrap(), said.iter().copied(), &proxies).map(|address| address.to_string());
        let is = |address: &str| Some(address.to_owned());
        assert_eq!(from("198.51.100.7", &["203.0.113.5"]), is("198.51.100.7"), "who is no proxy is not believed");
        assert_eq!(from("10.1.2.3", &["203.0.113.5"]), is("203.0.113.5"));
        assert_eq!(from("::ffff:10.1.2.3", &["1.1.1.1, 203.0.113.5, 192.0.2.1"]), is("203.0.113.5"), "what stands before it anybody wrote");
        assert_eq!(from("10.1.2.3", &["203.0.113.5", "198.51.100.9:4711"]), is("198.51.100.9"));
        assert_eq!(from("fd00::1", &["[2001:db8::5]:443"]), is("2001:db8::5"));
        for said in [&[][..], &["nonsense"], &["203.0.113.5, nonsense"], &["10.0.0.1"]] {
            assert_eq!(from("10.1.2.3", said), None, "{said:?}");
        }
        for wrong in ["10.0.0.1/8", "10.0.0.0/33", "x", "10.0.0.0/", "::/129"] {
            assert_eq!(wrong.parse::<Block>(), Err(NotABlock), "{wrong}");
        }
        assert!("0.0.0.0/0".parse::<Block>().unwrap().contains("198.51.100.7".parse().unwrap()));
    }

    #[test]
    fn where_what_a_bundle_names_may_be() {
        for (address, may) in [
            ("1.1.1.1", true),
            ("10.1.2.3", true),
            ("127.0.0.1", true),
            ("fd00::1", true),
            ("::1", true),
            ("169.254.169.254", false),
            ("169.254.170.2", false),
            ("100.100.100.200", false),
            ("168.63.129.16", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("fd00:ec2::254", false),
            ("fd20:ce::254", false),
            ("::ffff:169.254.169.254", false),
            ("::169.254.169.254", false),
            ("64:ff9b::169.254.169.254", false),
            ("2002:a9fe:a9fe::", false),
        ] {
            assert_eq!(may_lead_to(address.parse().unwrap()), may, "{address}");
        }
    }

    #[test]
    fn only_public_addresses_are_reached() {
        for (address, public) in [
            ("1.1.1.1", true),
            ("172.15.0.1", true),
            ("2606:4700::1111", true),
            ("::ffff:1.1.1.1", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("172.31.255.1", false),
            ("192.168.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("2002:7f00:1::", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("2001:db8::1", false),
            ("2001::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }
}
