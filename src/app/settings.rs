//! From the options to what routing wants to know.

use std::time::Duration;

use super::error::Error;
use crate::options::{self, Mode, Options};
use crate::routing::{DetectLocal, NodePortAddresses, Settings, VirtualIps};
use crate::types::PortalKind;

/// kube-proxy's default minSyncPeriod: for so long what it serves may be what was.
const HOLD: Duration = Duration::from_secs(1);

/// Routing's settings on a machine whose portal is of this kind.
pub(super) fn of(
    options: &Options,
    node_name: &str,
    portal: PortalKind,
) -> Result<Settings, Error> {
    Ok(Settings {
        node_name: node_name.into(),
        node_ip: options.bind_address.filter(|ip| !ip.is_unspecified()),
        detect_local: match options.detect_local {
            options::DetectLocal::ClusterCidr => DetectLocal::Cidrs(options.cluster_cidr.clone()),
            options::DetectLocal::NodeCidr => DetectLocal::NodeCidr,
            options::DetectLocal::Off => DetectLocal::Off,
        },
        nodeport_addresses: nodeport_addresses(options)?,
        localhost_nodeports: options.localhost_nodeports,
        service_proxy_name: options.service_proxy_name.as_deref().map(Into::into),
        hold: HOLD,
        external_ips: options.gates.external_ips,
        virtual_ips: match portal {
            PortalKind::None => VirtualIps::HostAddressesOnly,
            PortalKind::Auto | PortalKind::Netns | PortalKind::Host => VirtualIps::Captured,
        },
    })
}

/// Unset means all addresses, but for a node that was configured for `mode: nftables`, where it means `primary`.
fn nodeport_addresses(options: &Options) -> Result<NodePortAddresses, Error> {
    if options.nodeport_addresses.is_empty() && options.mode == Mode::Nftables {
        return Ok(NodePortAddresses::parse(&["primary"])?);
    }
    Ok(NodePortAddresses::parse(&options.nodeport_addresses)?)
}
