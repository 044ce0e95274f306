//! Who a listener hears: source networks in, a program out.

use std::net::IpAddr;

use ipnet::IpNet;

use super::instruction::{
    DROP, Instruction, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD_WORD,
    MAX_INSTRUCTIONS, NETWORK_HEADER, PASS,
};
use crate::types::IpFamily;

/// The program that passes packets from `allow` and no others. Networks of the other family are ignored; None if it
/// would be longer than the kernel takes.
pub(crate) fn sources(family: IpFamily, allow: &[IpNet]) -> Option<Vec<Instruction>> {
    let own = |net: &&IpNet| IpFamily::of(net.addr()) == family;
    let nets: Vec<IpNet> = allow.iter().filter(own).copied().collect();
    // Neighbours joined and contained ones left out: what remains is disjoint.
    let mut nets = IpNet::aggregate(&nets);
    nets.sort_unstable();
    let prefixes: Vec<Prefix> = nets.iter().map(Prefix::of).collect();
    let source = match family {
        IpFamily::V4 => 12,
        IpFamily::V6 => 8,
    };
    let mut program = Vec::new();
    emit_word(&prefixes, source, 0, &mut program);
    (program.len() <= MAX_INSTRUCTIONS).then_some(program)
}

/// A network as 32-bit words, which is what instructions compare.
#[derive(Clone, Copy)]
struct Prefix {
    words: [u32; 4],
    len: u32,
}

impl Prefix {
    fn of(net: &IpNet) -> Self {
        let bits = match net.network() {
            IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let word = |index: u32| (bits >> (96 - 32 * index)) as u32;
        Self {
            words: [word(0), word(1), word(2), word(3)],
            len: u32::from(net.prefix_len()),
        }
    }

    /// The values of word `index` that match, and whether later words have a say.
    fn interval(&self, index: usize) -> (u32, u32, bool) {
        let low = self.words.get(index).copied().unwrap_or(0);
        match self.len.saturating_sub(32 * index as u32) {
            fixed @ 0..32 => (low, low | (u32::MAX >> fixed), false),
            32 => (low, low, false),
            _ => (low, low, true),
        }
    }
}

/// Loads one word of the source address and decides by it. `prefixes` agree in all words before.
fn emit_word(prefixes: &[Prefix], source: u32, index: usize, program: &mut Vec<Instruction>) {
    if program.len() > MAX_INSTRUCTIONS {
        return;
    }
    let offset = NETWORK_HEADER + source + 4 * index as u32;
    program.push(Instruction::new(LOAD_WORD, 0, 0, offset));
    let groups: Vec<&[Prefix]> = prefixes
        .chunk_by(|a, b| a.interval(index) == b.interval(index))
        .collect();
    emit_groups(&groups, source, index, program);
}

/// A binary search over disjoint intervals of one word, in ascending order. Every branch ends by returning.
fn emit_groups(groups: &[&[Prefix]], source: u32, index: usize, program: &mut Vec<Instruction>) {
    if let [group] = groups {
        return emit_group(group, source, index, program);
    }
    let (left, right) = groups.split_at(groups.len() / 2);
    let Some(first) = right.first().and_then(|group| group.first()) else {
        return program.push(DROP);
    };
    let low = first.interval(index).0;
    program.push(Instruction::new(JUMP_GREATER_EQUAL, 0, 1, low));
    // Conditions jump 255 instructions at most, so the far side is reached by a plain jump, filled in below.
    let jump = program.len();
    program.push(Instruction::new(JUMP, 0, 0, 0));
    emit_groups(left, source, index, program);
    let skipped = (program.len() - jump - 1) as u32;
    if let Some(jump) = program.get_mut(jump) {
        jump.operand = skipped;
    }
    emit_groups(right, source, index, program);
}

/// One interval: pass, drop, or look at the next word.
fn emit_group(group: &[Prefix], source: u32, index: usize, program: &mut Vec<Instruction>) {
    let Some(first) = group.first() else {
        return program.push(DROP);
    };
    match first.interval(index) {
        (value, _, true) => {
            program.push(Instruction::new(JUMP_EQUAL, 1, 0, value));
            program.push(DROP);
            emit_word(group, source, index + 1, program);
        }
        (low, high, false) => {
            program.push(Instruction::new(JUMP_GREATER_EQUAL, 0, 2, low));
            program.push(Instruction::new(JUMP_GREATER, 1, 0, high));
            program.push(PASS);
            program.push(DROP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::instruction::run;
    use super::*;

    fn packet(from: IpAddr) -> Vec<u8> {
        let mut packet = vec![0xaa; 40];
        match from {
            IpAddr::V4(ip) => packet[12..16].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => packet[8..24].copy_from_slice(&ip.octets()),
        }
        packet
    }

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn hears(allow: &[IpNet], from: &str) -> bool {
        let from: IpAddr = from.parse().unwrap();
        run(&sources(IpFamily::of(from), allow).unwrap(), &packet(from))
    }

    #[test]
    fn sources_in_the_list_are_heard() {
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&[], &[], &["0.0.0.0", "10.0.0.1", "::", "2001:db8::1"]),
            (&["0.0.0.0/0"], &["0.0.0.0", "255.255.255.255"], &["::1"]),
            (&["::/0"], &["::", "ffff::"], &["10.0.0.1"]),
            (
                &["10.0.0.0/8", "192.168.7.9/32", "192.168.7.0/30"],
                &["10.0.0.0", "10.255.255.255", "192.168.7.9", "192.168.7.3"],
                &["9.255.255.255", "11.0.0.0", "192.168.7.4", "192.168.7.8"],
            ),
            (
                &["2001:db8::/32", "2001:db9:0:1::/64", "2001:db9:0:2::5/128"],
                &[
                    "2001:db8::",
                    "2001:db8:ffff::1",
                    "2001:db9:0:1::7",
                    "2001:db9:0:2::5",
                ],
                &[
                    "2001:db7::1",
                    "2001:db9::1",
                    "2001:db9:0:2::4",
                    "2001:db9:0:2::6",
                    "::",
                ],
            ),
            // A network inside another; host bits set; halves that join.
            (
                &["10.0.0.0/8", "10.1.2.3/16", "11.0.0.0/9", "11.128.0.0/9"],
                &["10.1.0.0", "11.0.0.0", "11.255.255.255"],
                &["12.0.0.0"],
            ),
        ];
        for (allow, heard, not_heard) in cases {
            for from in *heard {
                assert!(hears(&nets(allow), from), "{allow:?} hears {from}");
            }
            for from in *not_heard {
                assert!(!hears(&nets(allow), from), "{allow:?} does not hear {from}");
            }
        }
    }

    #[test]
    fn programs_agree_with_the_networks() {
        let mut state = 7u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            state >> 33
        };
        for _ in 0..300 {
            let (v6, count) = (random() % 2 == 0, random() % 40);
            // Few distinct bits, so that networks touch, nest and share words.
            let mut address = || -> IpAddr {
                let mut bits =
                    || (0..4).fold(0u128, |b, _| b << 32 | u128::from(random() & 0x8001_8003));
                match v6 {
                    false => IpAddr::V4((bits() as u32).into()),
                    true => IpAddr::V6(bits().into()),
                }
            };
            let addresses: Vec<IpAddr> = (0..64).map(|_| address()).collect();
            let width = if v6 { 128 } else { 32 };
            let allow: Vec<IpNet> = (0..count)
                .map(|_| address())
                .zip(
                    [
                        width,
                        31,
                        30,
                        16,
                        15,
                        1,
                        width / 2,
                        width - 3,
                        width / 2 + 1,
                    ]
                    .iter()
                    .cycle(),
                )
                .map(|(ip, len)| IpNet::new(ip, *len).unwrap())
                .collect();
            let family = IpFamily::of(addresses[0]);
            let program = sources(family, &allow).unwrap();
            for ip in addresses {
                let expected = allow.iter().any(|net| net.contains(&ip));
                assert_eq!(run(&program, &packet(ip)), expected, "{ip} in {allow:?}");
            }
        }
    }

    #[test]
    fn long_lists_fit_or_are_refused() {
        let list = |count: u32| -> Vec<IpNet> {
            let address = |n: u32| IpAddr::V4((0x0a00_0000 + 2 * n).into());
            (0..count).map(|n| address(n).into()).collect()
        };
        let longest = list(682);
        for n in [0, 340, 341, 681] {
            assert!(hears(&longest, &longest[n].addr().to_string()));
        }
        assert!(!hears(&longest, "10.0.0.1"));
        assert_eq!(sources(IpFamily::V4, &list(700)), None);
    }
}
