//! Connections that have ended for the program, but not for the kernel: it still has bytes, or a FIN, that the client has not
//! acknowledged.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Counts them in a namespace, of which this is a `/proc/.../net`, at those local addresses that `ours` says.
pub(super) fn count(net: &Path, ours: impl Fn(IpAddr) -> bool) -> io::Result<usize> {
    let mut count = 0;
    for table in ["tcp", "tcp6"] {
        let file = match File::open(net.join(table)) {
            Ok(file) => file,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table == "tcp6" => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).lines() {
            count += usize::from(ending(&line?).is_some_and(&ours));
        }
    }
    Ok(count)
}

/// The local address, if this line of the kernel's table is a connection whose FIN is on its way.
fn ending(line: &str) -> Option<IpAddr> {
    // include/net/tcp_states.h
    const FIN_WAIT1: &str = "04";
    const LAST_ACK: &str = "09";
    const CLOSING: &str = "0B";
    // `  1: 0A00600A:0050 0200000A:D431 09 00006D60:00000000 ...`
    let mut words = line.split_whitespace().skip(1);
    let (local, _remote, state) = (words.next()?, words.next()?, words.next()?);
    if ![FIN_WAIT1, LAST_ACK, CLOSING].contains(&state) {
        return None;
    }
    let (ip, _port) = local.split_once(':')?;
    // Words of 32 bits, each as this machine would read it from memory.
    let word = |at: usize| {
        let digits = ip.get(8 * at..8 * at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match ip.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let v4 = |state| {
            let local = u32::from_ne_bytes([10, 96, 0, 10]);
            format!(
                "   3: {local:08X}:0050 0200000A:D431 {state} 00006D60:00000000 01:00000014 00000000     0        0 0 2"
            )
        };
        let v6 = |ip: &str, state| {
            let octets = ip.parse::<Ipv6Addr>().unwrap().octets();
            let words = octets.chunks(4).map(|word| {
                let word = u32::from_ne_bytes(word.try_into().unwrap());
                format!("{word:08X}")
            });
            let local: String = words.collect();
            format!("   0: {local}:0050 {local}:D431 {state} 00000000:00000000")
        };
        let is = |ip: &str| Some(ip.parse::<IpAddr>().unwrap());
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt";
        for (line, expect) in [
            (v4("04"), is("10.96.0.10")),
            (v4("09"), is("10.96.0.10")),
            (v4("0B"), is("10.96.0.10")),
            (v4("01"), None),
            (v4("08"), None),
            (v4("05"), None),
            (v4("0A"), None),
            (v6("fd00:96::a", "09"), is("fd00:96::a")),
            (v6("::ffff:10.96.0.10", "04"), is("10.96.0.10")),
            (v6("fd00:96::a", "06"), None),
            (heading.into(), None),
            ("  1: 0A60:0050 0200000A:D431 09".into(), None),
            ("  1: 0A60000X:0050 0200000A:D431 09".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(ending(&line), expect, "{line}");
        }
    }
}
