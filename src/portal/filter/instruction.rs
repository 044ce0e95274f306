//! Instructions of classic BPF, as the kernel takes them.

use socket2::SockFilter;

/// What one filter may hold (the kernel's BPF_MAXINSNS).
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

/// Loads relative to the network header, wherever the packet's data begins (SKF_NET_OFF).
pub(super) const NETWORK_HEADER: u32 = 0xfff0_0000;

pub(super) const LOAD_WORD: u16 = 0x20;
pub(super) const LOAD_HALF: u16 = 0x28;
pub(super) const LOAD_BYTE: u16 = 0x30;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

/// Keep the whole packet.
pub(super) const PASS: Instruction = Instruction::new(RETURN, 0, 0, u32::MAX);
/// Keep nothing of it.
pub(super) const DROP: Instruction = Instruction::new(RETURN, 0, 0, 0);

/// One classic BPF instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// What to do.
    pub(crate) code: u16,
    /// Instructions to skip if a condition holds.
    pub(crate) jump_true: u8,
    /// Instructions to skip if it does not.
    pub(crate) jump_false: u8,
    /// The operand.
    pub(crate) operand: u32,
}

impl Instruction {
    pub(super) const fn new(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> Self {
        Self {
            code,
            jump_true,
            jump_false,
            operand,
        }
    }
}

/// A program in the form that the socket wants.
pub(crate) fn instructions(program: &[Instruction]) -> Vec<SockFilter> {
    program
        .iter()
        .map(|i| SockFilter::new(i.code, i.jump_true, i.jump_false, i.operand))
        .collect()
}

/// Runs a program as the kernel does; true if the packet passes. Its first byte is where [`NETWORK_HEADER`] begins, too.
#[cfg(test)]
pub(super) fn run(program: &[Instruction], packet: &[u8]) -> bool {
    let (mut accumulator, mut at) = (0u32, 0usize);
    loop {
        let i = program[at];
        at += 1;
        let offset = (i.operand & !NETWORK_HEADER) as usize;
        let load = |size: usize| {
            packet[offset..offset + size]
                .iter()
                .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
        };
        let mut branch = |condition: bool| {
            at += usize::from(if condition { i.jump_true } else { i.jump_false });
        };
        match i.code {
            LOAD_WORD => accumulator = load(4),
            LOAD_HALF => accumulator = load(2),
            LOAD_BYTE => accumulator = load(1),
            JUMP => at += i.operand as usize,
            JUMP_EQUAL => branch(accumulator == i.operand),
            JUMP_GREATER => branch(accumulator > i.operand),
            JUMP_GREATER_EQUAL => branch(accumulator >= i.operand),
            RETURN => return i.operand != 0,
            code => panic!("instruction {code:#x}"),
        }
    }
}
