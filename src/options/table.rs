//! The one table behind the command line, the configuration file, `--help`, `--write-config-to` and /configz; a test holds
//! man/portico.8 to it.

use super::kept::GROUPS;
use super::setting::Setting;

/// Every setting.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}
