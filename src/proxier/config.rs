//! How the data path behaves.

use std::time::Duration;

/// How the data path behaves; the defaults are Kubernetes' where Kubernetes has one.
#[derive(Clone, Debug)]
pub struct ProxierConfig {
    /// Threads; at least one runs.
    pub workers: usize,
    /// How long each attempt to reach an endpoint may take; the client is reset once every step has run out.
    pub connect_ladder: Box<[Duration]>,
    /// How long a connection with one direction closed may be silent before it is reset.
    pub half_close_timeout: Duration,
    /// How long an endpoint's connection may be silent before the kernel probes whether the peer is alive.
    pub keepalive: Duration,
    /// How long a UDP flow may be silent that had no answer yet, or is younger than two seconds.
    pub udp_timeout: Duration,
    /// How long a UDP flow may be silent that goes both ways.
    pub udp_stream_timeout: Duration,
    /// UDP flows in all; each holds one open file. The oldest makes room for the next. None: a quarter of the open-file limit.
    pub max_udp_flows: Option<usize>,
}

impl Default for ProxierConfig {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, |n| n.get()),
            // kube-proxy's EndpointDialTimeouts.
            connect_ladder: [250, 500, 1000, 2000].map(Duration::from_millis).into(),
            // kube-proxy's --conntrack-tcp-timeout-close-wait.
            half_close_timeout: Duration::from_secs(3600),
            keepalive: Duration::from_secs(60),
            // nf_conntrack_udp_timeout and nf_conntrack_udp_timeout_stream.
            udp_timeout: Duration::from_secs(30),
            udp_stream_timeout: Duration::from_secs(120),
            max_udp_flows: None,
        }
    }
}
