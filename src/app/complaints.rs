//! What is wrong, as the log says it: once when it begins, and once when it is over.

use crate::types::{Complaint, Complaints, News};

/// Logs what is new and what is over; of thousands alike only the first, and how many more there are.
pub(super) fn log(news: News) {
    for complaint in some_of(news.new).iter() {
        log::warn!("{complaint}");
    }
    for complaint in some_of(news.resolved).iter() {
        log::info!("no more: {complaint}");
    }
}

fn some_of(all: Vec<Complaint>) -> Complaints {
    let mut some = Complaints::default();
    some.extend(all);
    some
}
