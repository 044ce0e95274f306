//! routing: upstream's facts as cases, and a second opinion on random states.

mod balancer_cases;
mod flow_cases;
mod generate;
mod hold_cases;
mod incremental;
mod nodeport_cases;
mod oracle;
mod property;
mod table_rules;
mod topology_cases;
pub mod world;
