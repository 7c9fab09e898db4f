//! Network addresses by whom they lead to: everybody, this house, this machine, or what hands out a host's own credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
