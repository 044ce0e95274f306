//! How many proxies in a row a client's packets may come through.
//!
//! Each router takes one off a packet's TTL (IPv6: hop limit), and so ends the circles of packets that are forwarded. A proxy
//! makes packets of its own, which begin anew: two proxies that send clients to each other would do so for ever. Where an
//! endpoint may be a proxy, the TTL is therefore handed on, less a step: a client goes through a few proxies, however many
//! there are in the circle, whatever their Services, and whoever translates addresses between them. A client of a program
//! that is no such proxy, and whatever it asks for, does not notice.

/// What a proxy takes off: as much as half a dozen routers, for a proxy holds two files for each client.
const STEP: u8 = 6;
/// With how much a client arrives at most, Linux' own default. Whoever begins with more must not get farther.
pub(crate) const MOST: u8 = 64;
/// With less than this nobody is sent on: where the next router ends the way, the client would learn of it by silence.
const LEAST: u8 = 8;

/// With what TTL the packets go on that have come with this one. None: they have come through so many proxies that they
/// must be going in circles.
pub(crate) fn ttl_onward(arrived: u8) -> Option<u8> {
    let left = arrived.min(MOST).checked_sub(STEP)?;
    (left >= LEAST).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxier::rng::{Rng, seeds};

    /// So many proxies may stand in a row when no router is between them.
    const IN_A_ROW: usize = 9;

    /// Nodes with a proxy on each. A Service is a list of endpoints: another node's Service, or a pod.
    struct World {
        /// Routers between any two nodes.
        routers: Vec<Vec<u8>>,
        /// By node, then by Service.
        services: Vec<Vec<Vec<Endpoint>>>,
        /// A node's proxy that does not hand the TTL on.
        forgetful: Option<usize>,
    }

    #[derive(Clone, Copy)]
    enum Endpoint {
        Pod,
        Service { node: usize, service: usize },
    }

    impl World {
        fn new(rng: &mut Rng) -> Self {
            let nodes = 2 + rng.below(5);
            let services = 1 + rng.below(3);
            let pods = rng.below(3);
            let row = |rng: &mut Rng| (0..nodes).map(|_| rng.below(4) as u8).collect();
            let routers = (0..nodes).map(|_| row(rng)).collect();
            let endpoint = |rng: &mut Rng| match rng.below(6) < pods {
                true => Endpoint::Pod,
                false => Endpoint::Service {
                    node: rng.below(nodes),
                    service: rng.below(services),
                },
            };
            let list = |rng: &mut Rng| (0..=rng.below(3)).map(|_| endpoint(rng)).collect();
            let node = |rng: &mut Rng| (0..services).map(|_| list(rng)).collect();
            Self {
                routers,
                services: (0..nodes).map(|_| node(rng)).collect(),
                forgetful: None,
            }
        }

        /// Where a client that arrives at this Service ends: at a pod or not, and after how many proxies.
        fn walk(&self, rng: &mut Rng, from: (usize, usize), mut ttl: u8) -> (bool, usize) {
            let (mut node, mut service) = from;
            for proxies in 1..1000 {
                let onward = ttl_onward(ttl);
                let usable = |endpoint: &&Endpoint| match endpoint {
                    Endpoint::Pod => true,
                    // A listener of one's own is known, and never used.
                    Endpoint::Service { node: other, .. } => *other != node && onward.is_some(),
                };
                let endpoints: Vec<_> =
                    self.services[node][service].iter().filter(usable).collect();
                let Some(onward) = onward.filter(|_| !endpoints.is_empty()) else {
                    return (
                        endpoints.iter().any(|e| matches!(e, Endpoint::Pod)),
                        proxies,
                    );
                };
                match **rng.choose(&endpoints) {
                    Endpoint::Pod => return (true, proxies),
                    Endpoint::Service {
                        node: to,
                        service: of,
                    } => {
                        let begins = if self.forgetful == Some(node) {
                            MOST
                        } else {
                            onward
                        };
                        ttl = begins.saturating_sub(self.routers[node][to]);
                        (node, service) = (to, of);
                    }
                }
            }
            (false, 1000)
        }
    }

    #[test]
    fn simulation_of_circles_through_nodes_services_and_routers() {
        seeds(512, |mut rng| {
            let world = World::new(&mut rng);
            for _ in 0..32 {
                let from = (
                    rng.below(world.services.len()),
                    rng.below(world.services[0].len()),
                );
                let ttl = *rng.choose(&[1, 8, 30, 64, 128, 255]);
                let (_, proxies) = world.walk(&mut rng, from, ttl);
                assert!(proxies <= IN_A_ROW + 1, "{proxies} proxies");
            }
        });
    }

    #[test]
    fn a_row_of_proxies_with_a_pod_at_its_end_is_no_circle() {
        for routers in 0..4 {
            for length in 1..=5 {
                let on_to = |node: usize| match node + 1 == length {
                    true => Endpoint::Pod,
                    false => Endpoint::Service {
                        node: node + 1,
                        service: 0,
                    },
                };
                let world = World {
                    routers: vec![vec![routers; length]; length],
                    services: (0..length).map(|node| vec![vec![on_to(node)]]).collect(),
                    forgetful: None,
                };
                seeds(1, |mut rng| {
                    assert_eq!(world.walk(&mut rng, (0, 0), 64), (true, length));
                });
            }
        }
    }

    #[test]
    fn a_proxy_that_begins_anew_alone_keeps_a_circle_going() {
        let to = |node| vec![vec![Endpoint::Service { node, service: 0 }]];
        for (forgetful, expect) in [(None, IN_A_ROW + 1), (Some(1), 1000)] {
            let world = World {
                routers: vec![vec![0; 3]; 3],
                services: vec![to(1), to(2), to(0)],
                forgetful,
            };
            seeds(1, |mut rng| {
                assert_eq!(world.walk(&mut rng, (0, 0), 64), (false, expect));
            });
        }
    }

    #[test]
    fn each_proxy_takes_a_step_off() {
        let rows = [
            (255, Some(58)),
            (64, Some(58)),
            (58, Some(52)),
            (14, Some(8)),
            (13, None),
            (1, None),
            (0, None),
        ];
        for (arrived, onward) in rows {
            assert_eq!(ttl_onward(arrived), onward, "{arrived}");
        }
    }
}
