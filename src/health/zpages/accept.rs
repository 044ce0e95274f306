//! In which form a z-page is asked for, by the rules of Kubernetes' own. Pure.

/// The group of the structured pages.
pub(super) const GROUP: &str = "config.k8s.io";
/// Its versions: that of 1.35, and that since 1.36, which says the same.
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// An object of this version.
    Structured(&'static str),
}

/// The first form of an Accept header that a page of this kind has.
pub(super) fn form(accept: &str, kind: &str) -> Option<Form> {
    accept.split(',').find_map(|range| {
        let (media, parameters) = range.split_once(';').unwrap_or((range, ""));
        let parameters = parameters.split(';').map(str::trim);
        let parameters = parameters.filter(|it| !it.is_empty() && !it.starts_with("q="));
        let parameters: Vec<&str> = parameters.collect();
        match media.trim() {
            "" | "*" | "*/*" | "text/*" | "text/plain" => {
                is_text(&parameters).then_some(Form::Text)
            }
            "application/json" => version(&parameters, kind).map(Form::Structured),
            _ => None,
        }
    })
}

fn is_text(parameters: &[&str]) -> bool {
    let mut parameters = parameters.iter();
    parameters.all(|it| it.eq_ignore_ascii_case("charset=utf-8"))
}

/// Of `g=config.k8s.io;v=...;as=KIND`, which must all be there, in any order.
fn version(parameters: &[&str], kind: &str) -> Option<&'static str> {
    let value = |name: &str| {
        let pairs = parameters.iter().filter_map(|it| it.split_once('='));
        let mut named = pairs.filter(|(key, _)| *key == name);
        named.next().map(|(_, value)| value)
    };
    let is_ours = value("g") == Some(GROUP) && value("as") == Some(kind);
    let version = value("v").filter(|_| is_ours)?;
    VERSIONS.into_iter().find(|known| *known == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let browser = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
        let text = Some(Form::Text);
        let structured = |version| Some(Form::Structured(version));
        for (accept, expect) in [
            ("", text),
            ("*/*", text),
            ("text/plain", text),
            ("text/*;q=0.5", text),
            ("text/plain; charset=UTF-8", text),
            (browser, text),
            ("text/plain;version=0.0.4", None),
            ("application/json", None),
            ("text/html, application/json", None),
            (
                "application/json;v=v1alpha1;g=config.k8s.io;as=Statusz",
                structured("v1alpha1"),
            ),
            (
                "application/json; as=Statusz; g=config.k8s.io; v=v1beta1; q=1",
                structured("v1beta1"),
            ),
            (
                "application/json;v=v1alpha1;g=config.k8s.io;as=Statusz, text/plain",
                structured("v1alpha1"),
            ),
            ("application/json;v=v2;g=config.k8s.io;as=Statusz,*/*", text),
            ("application/json;v=v1alpha1;g=config.k8s.io;as=Flagz", None),
            ("application/json;v=v1alpha1;g=apps;as=Statusz", None),
            ("application/json;v=v1alpha1;as=Statusz", None),
        ] {
            assert_eq!(form(accept, "Statusz"), expect, "{accept}");
        }
    }
}
