//! `--feature-gates`: the gates that kube-proxy looks at, or once did, and what each means here.

use std::collections::BTreeMap;

/// Gates that change something here; the field of [`super::command::FeatureGates`] says what.
pub(super) const EXTERNAL_IPS: &str = "AllowServiceExternalIPs";
pub(super) const FLAGZ: &str = "ComponentFlagz";
pub(super) const STATUSZ: &str = "ComponentStatusz";

/// What becomes of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// It acts.
    Honoured,
    /// What it lets happen always happens here: "false" changes nothing.
    Always(&'static str),
    /// What it lets happen never happens here, or has no meaning: "true" changes nothing.
    Never(&'static str),
    /// Neither value changes anything.
    Nothing(&'static str),
}
use Meaning::{Always, Honoured, Never, Nothing};

const NO_RULES: &str = "portico writes no packet filter rules";
const NO_INFORMERS: &str = "it is about client-go's informers, which portico does not use";
const JSON_ALONE: &str = "portico speaks JSON to the apiserver";
const ALL_LOGGING: &str = "no option of the log is behind a gate here";
const WINDOWS: &str = "it is for Windows";
const BY_THEIR_NAMES: &str = "gates are taken by their own names only";

/// By name. A gate of Kubernetes that is not here has nothing to do with a service proxy.
const GATES: &[(&str, Meaning)] = &[
    ("AllAlpha", Nothing(BY_THEIR_NAMES)),
    ("AllBeta", Nothing(BY_THEIR_NAMES)),
    (EXTERNAL_IPS, Honoured),
    ("AtomicFIFO", Nothing(NO_INFORMERS)),
    (
        "ClientsAllowCARotation",
        Always("certificates are read again as they change"),
    ),
    ("ClientsAllowCBOR", Never(JSON_ALONE)),
    ("ClientsPreferCBOR", Never(JSON_ALONE)),
    (FLAGZ, Honoured),
    ("ComponentSLIs", Always("/metrics/slis is always there")),
    (STATUSZ, Honoured),
    ("ContextualLogging", Nothing(ALL_LOGGING)),
    (
        "EndpointSlice",
        Always("EndpointSlices are followed where the apiserver has them"),
    ),
    (
        "EndpointSliceProxying",
        Always("EndpointSlices are followed where the apiserver has them"),
    ),
    (
        "ExternalPolicyForExternalIP",
        Always("externalTrafficPolicy holds for external IPs"),
    ),
    ("InOrderInformers", Nothing(NO_INFORMERS)),
    ("IPTablesOwnershipCleanup", Nothing(NO_RULES)),
    ("IPv6DualStack", Always("both IP families are served")),
    ("InformerResourceVersion", Nothing(NO_INFORMERS)),
    (
        "KubeProxyDrainingTerminatingNodes",
        Always("/healthz fails on a node that is going away"),
    ),
    ("KubeProxyIPVS", Nothing("portico does not use IPVS")),
    (
        "KubeProxyNFTablesLocalhostNodePorts",
        Nothing("--nodeport-addresses alone says where node ports are served, loopback included"),
    ),
    ("LoadBalancerIPMode", Always("ipMode is followed")),
    ("LoggingAlphaOptions", Nothing(ALL_LOGGING)),
    ("LoggingBetaOptions", Nothing(ALL_LOGGING)),
    ("MinimizeIPTablesRestore", Nothing(NO_RULES)),
    (
        "MixedProtocolLBService",
        Always("a Service may mix protocols"),
    ),
    (
        "MultiCIDRServiceAllocator",
        Always("ServiceCIDRs are followed where the apiserver has them"),
    ),
    ("NFTablesNetlink", Nothing(NO_RULES)),
    ("NFTablesProxyMode", Nothing(NO_RULES)),
    (
        "PreferSameTrafficDistribution",
        Always("hints for nodes are followed"),
    ),
    (
        "ProxyTerminatingEndpoints",
        Always("endpoints that are ending serve where no other is left"),
    ),
    (
        "RelaxedServiceNameValidation",
        Always("names are taken as they come"),
    ),
    ("SCTPSupport", Never("SCTP is not carried")),
    (
        "ServiceAppProtocol",
        Nothing("appProtocol does not change how bytes are carried"),
    ),
    (
        "ServiceInternalTrafficPolicy",
        Always("internalTrafficPolicy is followed"),
    ),
    (
        "ServiceLBNodePortControl",
        Always("a Service of type LoadBalancer may go without node ports"),
    ),
    (
        "ServiceLoadBalancerClass",
        Always("whoever provides the load balancer, its addresses are served"),
    ),
    (
        "ServiceTopology",
        Never("Kubernetes has replaced topologyKeys by hints, which are followed"),
    ),
    ("ServiceTrafficDistribution", Always("hints are followed")),
    (
        "StrictIPCIDRValidation",
        Nothing("addresses with leading zeros are refused either way"),
    ),
    ("SupportIPVSProxyMode", Nothing("portico does not use IPVS")),
    ("TopologyAwareHints", Always("hints for zones are followed")),
    ("UnlockWhileProcessingFIFO", Nothing(NO_INFORMERS)),
    (
        "WatchListClient",
        Always("lists are streamed where the apiserver can, and only there"),
    ),
    ("WinDSR", Never(WINDOWS)),
    ("WinOverlay", Never(WINDOWS)),
    ("WindowsEndpointSliceProxying", Never(WINDOWS)),
];

/// Whether a gate that is honoured, and on unless it is switched off, is on.
pub(super) fn is_on(gates: &BTreeMap<String, bool>, name: &str) -> bool {
    gates.get(name).copied().unwrap_or(true)
}

/// One warning for each gate that is set and does not change what its value asks for.
pub(super) fn warnings(gates: &BTreeMap<String, bool>) -> impl Iterator<Item = String> {
    gates.iter().filter_map(|(name, on)| {
        let known = GATES.iter().find(|(known, _)| known == name);
        let reason = match (known.map(|(_, meaning)| *meaning), on) {
            (None, _) => "it is no gate of kube-proxy's",
            (Some(Always(reason)), false) | (Some(Never(reason)), true) => reason,
            (Some(Nothing(reason)), _) => reason,
            (Some(Honoured), _) | (Some(Always(_)), true) | (Some(Never(_)), false) => return None,
        };
        Some(format!("feature gate {name}={on} has no effect: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(name: &str, on: bool) -> Option<String> {
        warnings(&BTreeMap::from([(name.to_owned(), on)])).next()
    }

    #[test]
    fn each_gate_is_there_once_and_honoured_only_where_something_reads_it() {
        let mut names: Vec<&str> = GATES.iter().map(|(name, _)| *name).collect();
        let honoured = GATES.iter().filter(|(_, meaning)| *meaning == Honoured);
        let honoured: Vec<&str> = honoured.map(|(name, _)| *name).collect();
        assert_eq!(honoured, [EXTERNAL_IPS, FLAGZ, STATUSZ]);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), GATES.len());
    }

    #[test]
    fn a_warning_says_why_a_value_changes_nothing() {
        for (name, on, reason) in [
            (EXTERNAL_IPS, false, None),
            (EXTERNAL_IPS, true, None),
            ("ProxyTerminatingEndpoints", true, None),
            (
                "ProxyTerminatingEndpoints",
                false,
                Some("endpoints that are ending"),
            ),
            ("WinDSR", false, None),
            ("WinDSR", true, Some("Windows")),
            ("NFTablesNetlink", true, Some("packet filter")),
            (
                "GracefulNodeShutdown",
                true,
                Some("no gate of kube-proxy's"),
            ),
            (
                "allowserviceexternalips",
                false,
                Some("no gate of kube-proxy's"),
            ),
        ] {
            let found = warned(name, on);
            assert_eq!(found.is_some(), reason.is_some(), "{name}={on}: {found:?}");
            let said = found.unwrap_or_default();
            assert!(said.contains(reason.unwrap_or_default()), "{said}");
        }
    }
}
