//! Whether the host's firewall lets pods and other machines reach a portal in a namespace of its own: what is for virtual IPs
//! is forwarded there.

use std::io;

use super::marks::LINK;
use super::nft::{self, Chain};

/// linux/netfilter.h
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NF_INET_FORWARD: u32 = 2;

/// The chains of nftables that drop forwarded packets which no rule accepts, where no rule of the same table names our
/// link; each as `table/chain`.
pub(super) fn dropping_chains() -> io::Result<Vec<String>> {
    let chains = nft::chains()?;
    if !chains.iter().any(drops_forwarded) {
        return Ok(Vec::new());
    }
    let naming = nft::tables_naming(LINK)?;
    Ok(without_exception(&chains, &naming))
}

/// What it means, and what to do.
pub(super) fn advice(chain: &str) -> String {
    format!(
        "the firewall drops forwarded packets unless a rule accepts them (nftables chain {chain}), and no rule there names \
         {LINK}: pods and other machines may not reach virtual IPs; accept what comes from {LINK} and what goes there"
    )
}

fn drops_forwarded(chain: &Chain) -> bool {
    let routed = [NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6].contains(&chain.family);
    routed && chain.hook == Some(NF_INET_FORWARD) && chain.drops
}

fn without_exception(chains: &[Chain], naming: &[(u8, String)]) -> Vec<String> {
    let excepted = |chain: &Chain| {
        let mut naming = naming.iter();
        naming.any(|(family, table)| (*family, table) == (chain.family, &chain.table))
    };
    let chains = chains
        .iter()
        .filter(|chain| drops_forwarded(chain) && !excepted(chain));
    let mut names: Vec<String> = chains.map(|c| format!("{}/{}", c.table, c.name)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_drop_are_found_unless_a_rule_names_the_link() {
        let chain = |family, table: &str, hook, drops| Chain {
            family,
            table: table.to_owned(),
            name: "FORWARD".to_owned(),
            hook,
            drops,
        };
        let chains = [
            chain(NFPROTO_IPV4, "filter", Some(NF_INET_FORWARD), true),
            chain(NFPROTO_IPV6, "filter", Some(NF_INET_FORWARD), true),
            chain(NFPROTO_IPV4, "input", Some(1), true),
            chain(NFPROTO_IPV4, "accepting", Some(NF_INET_FORWARD), false),
            chain(7, "bridge", Some(NF_INET_FORWARD), true),
            chain(NFPROTO_INET, "other", Some(NF_INET_FORWARD), true),
        ];
        let names = |naming: &[(u8, &str)]| {
            let naming: Vec<_> = naming.iter().map(|(f, t)| (*f, (*t).to_owned())).collect();
            without_exception(&chains, &naming)
        };
        assert_eq!(names(&[]), ["filter/FORWARD", "other/FORWARD"]);
        assert_eq!(names(&[(NFPROTO_INET, "other")]), ["filter/FORWARD"]);
        let all = [
            (NFPROTO_INET, "other"),
            (NFPROTO_IPV4, "filter"),
            (NFPROTO_IPV6, "filter"),
        ];
        assert_eq!(names(&all), Vec::<String>::new());
    }
}
