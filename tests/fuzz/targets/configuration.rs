//! KubeProxyConfiguration: what --write-config-to writes of a file is read back as the same, strictly.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portico::options::{self, Command, Parsed};

fuzz_target!(|text: &str| {
    let Some((yaml, _)) = written(text) else {
        return;
    };
    let (again, warnings) = written(&yaml).expect("what was written can be read");
    assert_eq!(again, yaml);
    let lenient = warnings.iter().find(|warning| warning.contains("lenient"));
    assert_eq!(lenient, None, "{yaml}");
});

/// The configuration in effect, and what was remarked on the way to it. None: it is refused.
fn written(text: &str) -> Option<(String, Vec<String>)> {
    let args = ["--config=file", "--write-config-to=other"].map(str::to_owned);
    match options::parse(args, |_| Ok(text.to_owned())) {
        Ok(Parsed {
            command: Command::WriteConfig { yaml, .. },
            warnings,
        }) => Some((yaml, warnings)),
        Ok(other) => panic!("{:?}", other.command),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}
