//! Addresses and ranges as Kubernetes reads them: "sloppily".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An IP address; leading zeros in IPv4 are decimal (`010.0.0.1` is 10.0.0.1), IPv4-mapped IPv6 is IPv4.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    let ip = match text.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => sloppy(text)?,
    };
    Some(ip.to_canonical())
}

/// A CIDR such as `10.0.0.0/8`; its host bits are dropped.
pub(crate) fn parse_cidr(text: &str) -> Option<IpNet> {
    let (ip, prefix) = text.split_once('/')?;
    let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    let mut prefix: u8 = prefix.parse().ok().filter(|_| digits)?;
    let mapped = ip.contains(':');
    let ip = parse_ip(ip)?;
    if mapped && ip.is_ipv4() {
        prefix = prefix.checked_sub(96)?;
    }
    Some(IpNet::new(ip, prefix).ok()?.trunc())
}

fn sloppy(text: &str) -> Option<IpAddr> {
    match text.rsplit_once(':') {
        None => sloppy_v4(text).map(IpAddr::V4),
        Some((head, tail)) => {
            let [a, b, c, d] = sloppy_v4(tail)?.octets();
            let text = format!("{head}:{a}.{b}.{c}.{d}");
            text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
    }
}

fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let significant = part.trim_start_matches('0');
        *octet = match (digits, significant) {
            (false, _) => return None,
            (true, "") => 0,
            (true, significant) => significant.parse().ok()?,
        };
    }
    parts.next().is_none().then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let good = [
            ("10.0.0.1", "10.0.0.1"),
            ("010.0.0.001", "10.0.0.1"),
            ("000.0.0.00", "0.0.0.0"),
            ("fd00::1", "fd00::1"),
            ("FD00:0::0001", "fd00::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::ffff:010.0.0.1", "10.0.0.1"),
            ("64:ff9b::010.0.0.1", "64:ff9b::a00:1"),
        ];
        for (text, expect) in good {
            let parsed = parse_ip(text).map(|ip| ip.to_string());
            assert_eq!(parsed.as_deref(), Some(expect), "{text}");
        }
        for bad in [
            "",
            "None",
            "10.0.0",
            "10.0.0.256",
            "10.0.0.1.1",
            "10..0.1",
            "0x0a.0.0.1",
            " 10.0.0.1",
            "fe80::1%eth0",
            "1:2:3",
            "+1.0.0.1",
        ] {
            assert_eq!(parse_ip(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let good = [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("010.0.0.0/08", "10.0.0.0/8"),
            ("fd00::1/64", "fd00::/64"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ];
        for (text, expect) in good {
            let parsed = parse_cidr(text).map(|net| net.to_string());
            assert_eq!(parsed.as_deref(), Some(expect), "{text}");
        }
        for bad in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "fd00::/129",
            "/8",
            "::ffff:10.0.0.0/8",
        ] {
            assert_eq!(parse_cidr(bad), None, "{bad}");
        }
    }
}
