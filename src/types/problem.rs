//! What is wrong with one object.

use std::fmt;

use super::one_line;

/// What is wrong is kept for as long as it is; the value that is wrong can be of any length.
const LONGEST: usize = 300;

/// At most so many problems of one object are kept: a thousand bad endpoints are one mistake.
const MOST_OF_AN_OBJECT: usize = 10;

/// What is wrong with an object, and costs no more than it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// The field's path, as in `spec.ports[0].port`; empty where it is about the whole.
    pub field: Box<str>,
    /// What is wrong with it.
    pub what: Box<str>,
}

impl Problem {
    /// A problem of one line, and of a length that can be kept.
    pub fn new(field: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self {
            field: one_line(&field.to_string(), LONGEST).into(),
            what: one_line(&what.to_string(), LONGEST).into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.field {
            "" => f.write_str(&self.what),
            field => write!(f, "{field}: {}", self.what),
        }
    }
}

/// The problems of one object: the first of them, and how many more there are. Nearly all objects have none, and this is a
/// null pointer then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Option<Box<(Vec<Problem>, usize)>>);

impl Problems {
    /// One more.
    pub fn add(&mut self, field: impl fmt::Display, what: impl fmt::Display) {
        self.push(&field, &what);
    }

    fn push(&mut self, field: &dyn fmt::Display, what: &dyn fmt::Display) {
        let (kept, left_out) = &mut **self.0.get_or_insert_default();
        if kept.len() < MOST_OF_AN_OBJECT {
            kept.push(Problem::new(field, what));
        } else {
            *left_out += 1;
        }
    }

    /// Those that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().flat_map(|problems| &problems.0)
    }

    /// The first of them.
    pub(crate) fn into_first(self) -> Option<Problem> {
        self.0.and_then(|problems| problems.0.into_iter().next())
    }

    /// How many are not.
    pub fn left_out(&self) -> usize {
        self.0.as_ref().map_or(0, |problems| problems.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_one_object_are_bounded() {
        let mut problems = Problems::default();
        for position in 0..1000 {
            problems.add(format_args!("spec.ports[{position}]"), "0");
        }
        assert_eq!((problems.iter().count(), problems.left_out()), (10, 990));
        assert_eq!(size_of::<Problems>(), size_of::<usize>());
    }
}
