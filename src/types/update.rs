//! What a source says.

use super::{Complaints, NamespacedName};

/// What one source says about one kind of object; sources are independent of each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Update<T> {
    /// Everything the source has: replaces all that it said before.
    Set(Vec<T>),
    /// The same in pieces, so that nobody has to hold all of it; nothing comes of it before its end.
    Relist(Relist<T>),
    /// A new or changed object.
    Add(T),
    /// The object is gone; an unknown key is no error.
    Remove(NamespacedName),
    /// The source cannot be read now. What it said before stays in force; before its first `Set` it counts as absent,
    /// so that other sources are not held up for ever.
    Unavailable,
    /// What is wrong with what the source says and that no delivered object carries: objects that can mean nothing, objects
    /// said twice. Replaces all complaints of this source about this kind.
    Complaints(Complaints),
}

/// Everything a source has, as it arrives.
#[derive(Clone, Debug, PartialEq)]
pub enum Relist<T> {
    /// Here it begins. One that has begun before and has not ended is void.
    Begin,
    /// More objects; the last one of a name counts.
    Objects(Vec<T>),
    /// An object that has come is gone again.
    Gone(NamespacedName),
    /// That was all: it replaces what the source said before.
    End,
}
