//! What a socket that listens to rtnetlink hears.

use nix::libc::{RTM_DELROUTE, RTM_NEWROUTE, RTM_NEWRULE};

use super::instruction::{DROP, Instruction, JUMP_EQUAL, LOAD_BYTE, LOAD_HALF, LOAD_WORD, PASS};

/// The program for a socket that listens to rtnetlink: it passes links, addresses and removed rules, default routes, and
/// the removal of routes that carry `protocol`; nothing that socket `own` did.
pub(crate) fn announcements(own: u32, protocol: u8) -> Vec<Instruction> {
    // Loads are big-endian, netlink's numbers are not.
    let half = |number: u16| u32::from(u16::from_be_bytes(number.to_ne_bytes()));
    let word = |number: u32| u32::from_be_bytes(number.to_ne_bytes());
    // nlmsghdr {u32 length, u16 type, u16 flags, u32 sequence, u32 port}, rtmsg {u8 family, u8 destination length, ..}
    let (kind, port, destination_length, route_protocol) = (4, 12, 17, 21);
    vec![
        Instruction::new(LOAD_WORD, 0, 0, port),
        Instruction::new(JUMP_EQUAL, 9, 0, word(own)),
        Instruction::new(LOAD_HALF, 0, 0, kind),
        Instruction::new(JUMP_EQUAL, 7, 0, half(RTM_NEWRULE)),
        Instruction::new(JUMP_EQUAL, 3, 0, half(RTM_NEWROUTE)),
        Instruction::new(JUMP_EQUAL, 0, 4, half(RTM_DELROUTE)),
        Instruction::new(LOAD_BYTE, 0, 0, route_protocol),
        Instruction::new(JUMP_EQUAL, 2, 0, u32::from(protocol)),
        Instruction::new(LOAD_BYTE, 0, 0, destination_length),
        Instruction::new(JUMP_EQUAL, 0, 1, 0),
        PASS,
        DROP,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::instruction::run;
    use super::*;

    #[test]
    fn announcements_that_concern_us() {
        let program = announcements(4711, 112);
        let message = |kind: u16, port: u32, destination_length: u8, protocol: u8| {
            let mut bytes = vec![0; 28];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[12..16].copy_from_slice(&port.to_ne_bytes());
            (bytes[17], bytes[21]) = (destination_length, protocol);
            bytes
        };
        for (kind, port, length, protocol, passes) in [
            (16, 0, 0, 0, true),     // a link
            (21, 0, 0, 0, true),     // an address is gone
            (21, 4711, 0, 0, false), // our own doing
            (24, 0, 24, 3, false),   // someone's new route
            (24, 0, 0, 3, true),     // a new default route
            (25, 9, 24, 3, false),
            (25, 9, 0, 3, true),
            (25, 9, 32, 112, true), // ours, removed by someone else
            (25, 4711, 32, 112, false),
            (32, 9, 0, 0, false), // a new rule
            (33, 9, 0, 0, true),
        ] {
            let message = message(kind, port, length, protocol);
            assert_eq!(
                run(&program, &message),
                passes,
                "{kind} {port} {length} {protocol}"
            );
        }
    }
}
