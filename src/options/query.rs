//! What is asked of `portico explain`.

use std::net::{IpAddr, SocketAddr};

use crate::types::{NamespacedName, Protocol};

/// The question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// All Services, in a table.
    All,
    /// One Service.
    Service(NamespacedName),
    /// What happens to one connection, and why.
    Connection {
        /// `--from`
        from: IpAddr,
        /// `--to`, without its protocol.
        to: SocketAddr,
        /// `--to`'s `/UDP`; TCP if it has none.
        protocol: Protocol,
    },
}

/// From the words after `explain` and the values of `--from` and `--to` (empty: not given).
pub(super) fn parse(words: &[String], from: &str, to: &str) -> Result<Query, Vec<String>> {
    let one = |error: &str| Err(vec![error.to_owned()]);
    match (words, from.is_empty(), to.is_empty()) {
        ([], true, true) => Ok(Query::All),
        ([name], true, true) => NamespacedName::parse(name)
            .map(Query::Service)
            .ok_or_else(|| vec![format!("{name:?}: expected NAMESPACE/NAME")]),
        ([], false, false) => connection(from, to),
        ([], ..) => one("--from and --to go together"),
        ([_], ..) => one("ask for NAMESPACE/NAME or for --from and --to, not for both"),
        ([_, ..], ..) => one("explain takes one NAMESPACE/NAME at most"),
    }
}

fn connection(from: &str, to: &str) -> Result<Query, Vec<String>> {
    let mut errors = Vec::new();
    let source = from.parse::<IpAddr>().ok();
    if source.is_none() {
        errors.push(format!("--from {from:?}: expected an IP address"));
    }
    let (address, protocol) = match to.split_once('/') {
        Some((address, protocol)) => (address, Protocol::parse(protocol)),
        None => (to, Some(Protocol::Tcp)),
    };
    let address = address.parse::<SocketAddr>().ok();
    if address.is_none() || protocol.is_none() {
        errors.push(format!(
            "--to {to:?}: expected IP:PORT or [IP]:PORT, then /TCP, /UDP or /SCTP if it is not TCP"
        ));
    }
    let (Some(from), Some(to), Some(protocol)) = (source, address, protocol) else {
        return Err(errors);
    };
    if from.to_canonical().is_ipv4() != to.ip().to_canonical().is_ipv4() {
        return Err(vec!["--from and --to are of different families".to_owned()]);
    }
    Ok(Query::Connection {
        from: from.to_canonical(),
        to: SocketAddr::new(to.ip().to_canonical(), to.port()),
        protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(words: &[&str], from: &str, to: &str) -> Result<Query, Vec<String>> {
        let words: Vec<String> = words.iter().map(|&w| w.to_owned()).collect();
        parse(&words, from, to)
    }

    #[test]
    fn three_questions() {
        assert_eq!(ask(&[], "", ""), Ok(Query::All));
        assert_eq!(
            ask(&["shop/web"], "", ""),
            Ok(Query::Service(NamespacedName::new("shop", "web")))
        );
        let table = [
            ("10.0.0.1", "10.96.0.1:80", Protocol::Tcp),
            ("10.0.0.1", "10.96.0.1:53/UDP", Protocol::Udp),
            ("10.0.0.1", "10.96.0.1:53/udp", Protocol::Udp),
            ("fd00::1", "[fd00::2]:53/SCTP", Protocol::Sctp),
        ];
        for (from, to, protocol) in table {
            let expected = Query::Connection {
                from: from.parse().unwrap(),
                to: to.split('/').next().unwrap().parse().unwrap(),
                protocol,
            };
            assert_eq!(ask(&[], from, to), Ok(expected), "{to}");
        }
    }

    #[test]
    fn everything_else_is_a_mistake() {
        let table: [(&[&str], &str, &str, usize); 9] = [
            (&["web"], "", "", 1),
            (&["a/b", "c/d"], "", "", 1),
            (&["a/b"], "10.0.0.1", "10.0.0.2:80", 1),
            (&[], "10.0.0.1", "", 1),
            (&[], "", "10.0.0.1:80", 1),
            (&[], "here", "there", 2),
            (&[], "10.0.0.1", "10.0.0.2", 1),
            (&[], "10.0.0.1", "10.0.0.2:80/ICMP", 1),
            (&[], "10.0.0.1", "[fd00::1]:80", 1),
        ];
        for (words, from, to, errors) in table {
            let found = ask(words, from, to).expect_err(to);
            assert_eq!(found.len(), errors, "{words:?} {from} {to}: {found:?}");
        }
    }
}
