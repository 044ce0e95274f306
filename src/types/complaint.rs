//! What is wrong with what we are told: one form for the log, for explain and for scripts.
//!
//! An object carries its [`Problems`](super::Problems); a problem with its subject is a [`Complaint`], and sources, stores and routing have
//! complaints of their own. Whoever writes objects can make any number of them wrong: each collection is bounded, and counts
//! what it leaves out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{NamespacedName, Object, ObjectKind, Problem};

/// At most so many complaints of one sort are kept.
const MOST_OF_A_SORT: usize = 100;

/// Something that cannot be done, or not as written; everything else goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Complaint {
    /// Whom it is about.
    pub subject: Subject,
    /// What is wrong there.
    pub problem: Problem,
}

/// Whom a complaint is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// An object.
    Object(ObjectKind, NamespacedName),
    /// An object that cannot be named, or several.
    Kind(ObjectKind),
    /// A source, a file, or what is no object: as people call it.
    Other(Box<str>),
}

impl Subject {
    /// A Service.
    pub fn service(name: &NamespacedName) -> Self {
        Self::Object(ObjectKind::Service, name.clone())
    }

    /// An object.
    pub fn of<T: Object>(object: &T) -> Self {
        Self::Object(T::KIND, object.name().clone())
    }

    fn kind(&self) -> Option<ObjectKind> {
        match self {
            Self::Object(kind, _) | Self::Kind(kind) => Some(*kind),
            Self::Other(_) => None,
        }
    }

    /// This one and others of its kind.
    fn and_others(&self) -> Self {
        match self.kind() {
            Some(kind) => Self::Kind(kind),
            None => Self::Other("sources".into()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(kind, name) => write!(f, "{kind} {name}"),
            Self::Kind(kind) => kind.fmt(f),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl Complaint {
    /// A complaint about the whole of something.
    pub fn new(subject: Subject, what: impl fmt::Display) -> Self {
        let problem = Problem::new("", what);
        Self { subject, problem }
    }

    /// Adds where to look, or what else helps.
    pub(crate) fn locate(&mut self, place: impl fmt::Display) {
        let what = &self.problem.what;
        self.problem.what = format!("{what} ({place})").into();
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.problem)
    }
}

/// Complaints by their sort: the first of each, without duplicates, and how many more there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaints {
    most: usize,
    sorts: BTreeMap<Sort, Alike>,
}

/// The kind of object, and the field's path without the positions in it: an object of a thousand bad endpoints, or a
/// thousand objects of one, make one sort.
type Sort = (Option<ObjectKind>, Box<str>);

/// Complaints of one sort.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alike {
    /// Whom all of them are about.
    subject: Subject,
    kept: Vec<Complaint>,
    left_out: usize,
}

impl Default for Complaints {
    fn default() -> Self {
        Self::at_most(MOST_OF_A_SORT)
    }
}

impl Complaints {
    /// None yet; it will keep so many of each sort.
    pub fn at_most(most: usize) -> Self {
        Self {
            most,
            sorts: BTreeMap::new(),
        }
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.sorts.is_empty()
    }

    /// One more. False if it changes numbers at most: it is known, or one too many, and not the first of those.
    pub fn add(&mut self, complaint: Complaint) -> bool {
        let most = self.most;
        let alike = self.alike(&complaint.subject, &complaint.problem.field);
        if alike.kept.contains(&complaint) {
            return false;
        }
        if alike.kept.len() < most {
            alike.kept.push(complaint);
            return true;
        }
        alike.left_out += 1;
        alike.left_out == 1
    }

    /// So many more about this, of which nothing else is known.
    pub(crate) fn leave_out(&mut self, subject: &Subject, count: usize) {
        self.alike(subject, "").left_out += count;
    }

    /// The problems of an object, each with where else to look.
    pub(crate) fn add_object<T: Object>(&mut self, object: &T, place: Option<&dyn fmt::Display>) {
        let problems = object.problems();
        for problem in problems.iter() {
            let (subject, problem) = (Subject::of(object), problem.clone());
            let mut complaint = Complaint { subject, problem };
            if let Some(place) = place {
                complaint.locate(place);
            }
            self.add(complaint);
        }
        if problems.left_out() > 0 {
            self.leave_out(&Subject::of(object), problems.left_out());
        }
    }

    /// All that another collection keeps, and its counts.
    pub fn append(&mut self, other: &Self) {
        for ((_, field), others) in &other.sorts {
            self.extend(others.kept.iter().cloned());
            self.alike(&others.subject, field).left_out += others.left_out;
        }
    }

    fn alike(&mut self, subject: &Subject, field: &str) -> &mut Alike {
        let alike = self.sorts.entry((subject.kind(), without_positions(field)));
        let alike = alike.or_insert_with(|| Alike {
            subject: subject.clone(),
            kept: Vec::new(),
            left_out: 0,
        });
        if alike.subject != *subject {
            alike.subject = subject.and_others();
        }
        alike
    }

    /// All that is known: those that are kept, and of how many more each sort has left them out.
    pub fn iter(&self) -> impl Iterator<Item = Complaint> {
        self.with_rest(|left_out| format!("and {left_out} more like it"))
    }

    /// The same without numbers, for comparison: one more of a thousand is no news.
    pub fn uncounted(&self) -> BTreeSet<Complaint> {
        self.with_rest(|_| "and more like it".to_owned()).collect()
    }

    fn with_rest(&self, rest: impl Fn(usize) -> String) -> impl Iterator<Item = Complaint> {
        self.sorts.iter().flat_map(move |((_, field), alike)| {
            let rest = (alike.left_out > 0).then(|| Complaint {
                subject: alike.subject.clone(),
                problem: Problem::new(field, rest(alike.left_out)),
            });
            alike.kept.iter().cloned().chain(rest)
        })
    }
}

impl Extend<Complaint> for Complaints {
    fn extend<I: IntoIterator<Item = Complaint>>(&mut self, complaints: I) {
        for complaint in complaints {
            self.add(complaint);
        }
    }
}

/// `spec.ports[7].port` becomes `spec.ports[].port`; a key in brackets is no position.
fn without_positions(path: &str) -> Box<str> {
    let mut parts = path.split('[');
    let mut sort = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        sort.push('[');
        let is_digit = |c: char| c.is_ascii_digit();
        match part.split_once(']') {
            Some((position, rest)) if position.chars().all(is_digit) => {
                sort.push(']');
                sort.push_str(rest);
            }
            _ => sort.push_str(part),
        }
    }
    sort.into()
}

/// What two states of the same complaints differ in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// To be said.
    pub new: Vec<Complaint>,
    /// Not so any more.
    pub resolved: Vec<Complaint>,
}

impl News {
    /// From one state to the next.
    pub fn between(before: &BTreeSet<Complaint>, after: &BTreeSet<Complaint>) -> Self {
        let difference =
            |a: &BTreeSet<Complaint>, b: &BTreeSet<Complaint>| a.difference(b).cloned().collect();
        Self {
            new: difference(after, before),
            resolved: difference(before, after),
        }
    }

    /// True if there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.resolved.is_empty()
    }

    /// Those of both.
    pub fn append(&mut self, mut other: Self) {
        self.new.append(&mut other.new);
        self.resolved.append(&mut other.resolved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(service: &str, position: usize, what: &str) -> Complaint {
        let problem = Problem::new(format_args!("spec.ports[{position}].port"), what);
        let subject = Subject::service(&NamespacedName::new("shop", service));
        Complaint { subject, problem }
    }

    fn said(complaints: &Complaints) -> Vec<String> {
        complaints.iter().map(|it| it.to_string()).collect()
    }

    #[test]
    fn each_sort_has_its_share_and_counts_the_rest() {
        let mut all = Complaints::at_most(2);
        for position in 0..5 {
            all.add(port("web", position, "missing"));
            all.add(port("web", position, "missing"));
        }
        let file = Subject::Other("/m/a.yaml".into());
        all.add(Complaint::new(file, "is no regular file"));
        let web = [
            "/m/a.yaml: is no regular file",
            "Service shop/web: spec.ports[0].port: missing",
            "Service shop/web: spec.ports[1].port: missing",
        ];
        let rest = "Service shop/web: spec.ports[].port: and 6 more like it";
        assert_eq!(said(&all), [&web[..], &[rest]].concat());
        all.add(port("db", 1, "missing"));
        let rest = "Service: spec.ports[].port: and 7 more like it";
        assert_eq!(said(&all), [&web[..], &[rest]].concat());
    }

    #[test]
    fn a_thousand_and_one_are_no_news_after_a_thousand() {
        let mut all = Complaints::at_most(2);
        let mut known = BTreeSet::new();
        let mut news = |all: &Complaints| {
            let news = News::between(&known, &all.uncounted());
            known = all.uncounted();
            (news.new.len(), news.resolved.len())
        };
        for (position, expect) in [(1, 0), (1, 0), (1, 0), (0, 0), (0, 0)]
            .into_iter()
            .enumerate()
        {
            all.add(port("web", position, "missing"));
            assert_eq!(news(&all), expect, "{position}");
        }
        assert_eq!(news(&Complaints::default()), (0, 3));
    }

    #[test]
    fn collections_add_up() {
        let of = |service: &str| {
            let mut some = Complaints::at_most(1);
            some.extend([0, 1].map(|position| port(service, position, "missing")));
            some
        };
        let mut all = Complaints::at_most(usize::MAX);
        all.append(&of("a"));
        all.append(&of("b"));
        let expect = [
            "Service shop/a: spec.ports[0].port: missing",
            "Service shop/b: spec.ports[0].port: missing",
            "Service: spec.ports[].port: and 2 more like it",
        ];
        assert_eq!(said(&all), expect);
    }

    #[test]
    fn positions_do_not_make_a_sort() {
        let rows = [
            ("", ""),
            ("spec.ports[10].port", "spec.ports[].port"),
            (
                "endpoints[0].hints.forZones[1].name",
                "endpoints[].hints.forZones[].name",
            ),
            ("metadata.labels[a/b]", "metadata.labels[a/b]"),
            ("odd[1", "odd[1"),
        ];
        for (path, expect) in rows {
            assert_eq!(&*without_positions(path), expect);
        }
    }
}
