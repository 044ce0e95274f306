//! Object identities. Their `Display` is the log format.

use std::fmt;
use std::sync::Arc;

use super::Protocol;

/// The key of an object: its namespace and name. Cluster-scoped objects (Node, ServiceCIDR) have an empty namespace.
///
/// Kept as the one string `namespace/name`, since thousands of these are map keys; neither part can hold a slash.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName(Arc<str>);

impl NamespacedName {
    /// The key of a namespaced object.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// The key of an object that lives in no namespace.
    pub fn cluster_scoped(name: &str) -> Self {
        Self::new("", name)
    }

    /// Parses `namespace/name`; both parts must be there.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let valid = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
        valid.then(|| Self(text.into()))
    }

    /// `metadata.namespace`, empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.0
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.strip_prefix('/').unwrap_or(&self.0))
    }
}

impl fmt::Debug for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One port of one Service, as kube-proxy's `ServicePortName`. Printed `ns/name:port`, or `ns/name` if the port is unnamed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortName {
    /// The Service.
    pub service: NamespacedName,
    /// `spec.ports[].name`; empty for the unnamed port.
    pub port: Arc<str>,
    /// `spec.ports[].protocol`: TCP and UDP on the same number are two ServicePorts.
    pub protocol: Protocol,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if !self.port.is_empty() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/{}", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_and_print() {
        let name = NamespacedName::new("shop", "web");
        assert_eq!(
            (name.namespace(), name.name(), name.to_string().as_str()),
            ("shop", "web", "shop/web")
        );
        let node = NamespacedName::cluster_scoped("node-1");
        assert_eq!(
            (node.namespace(), node.name(), node.to_string().as_str()),
            ("", "node-1", "node-1")
        );
        for bad in ["", "web", "/web", "shop/", "a/b/c"] {
            assert_eq!(NamespacedName::parse(bad), None, "{bad}");
        }
        assert_eq!(NamespacedName::parse("shop/web"), Some(name));
    }

    #[test]
    fn an_unnamed_port_has_no_colon() {
        let of = |port: &str| ServicePortName {
            service: NamespacedName::new("shop", "web"),
            port: port.into(),
            protocol: Protocol::Tcp,
        };
        assert_eq!(of("http").to_string(), "shop/web:http");
        assert_eq!(of("").to_string(), "shop/web");
    }
}
