//! Identifiers in the kernel's maps: hashes of what they stand for.
//!
//! Nothing has to be allocated, or remembered when the agent restarts, and two nodes agree.

use sha2::{Digest, Sha256};
use weft_model::ServiceAccount;
use weft_policy::RuleName;

/// The id of what `parts` say in the sense of `kind`; never 0, which means "none" everywhere.
pub fn id<'a>(kind: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = Sha256::new();
    for part in std::iter::once(kind.as_bytes()).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes()); // or "a","bc" would be "ab","c"
        hash.update(part);
    }
    let digest = hash.finalize();
    let first = digest.first_chunk().expect("SHA-256 has 32 bytes");
    u64::from_be_bytes(*first).max(1)
}

/// The token of a ServiceAccount.
pub fn service_account(account: &ServiceAccount) -> u64 {
    id("serviceaccount", [account.namespace.as_bytes(), account.name.as_bytes()])
}

/// The token of every workload of a namespace.
pub fn namespace(name: &str) -> u64 {
    id("namespace", [name.as_bytes()])
}

/// The id of a rule, for events.
pub fn rule(name: &RuleName) -> u32 {
    let index = (name.index as u64).to_be_bytes();
    let id = id("rule", [name.policy.namespace.as_bytes(), name.policy.name.as_bytes(), &index]);
    u32::try_from(id >> 32).expect("32 bits are left").max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_run_together() {
        let account = |namespace: &str, name: &str| service_account(&ServiceAccount::new(namespace, name));
        assert_ne!(account("ab", "c"), account("a", "bc"));
        assert_ne!(account("a", "b"), account("b", "a"));
        assert_ne!(id("a", [&b"b"[..]]), id("ab", []));
        assert_ne!(namespace("a"), namespace("b"));
    }

    #[test]
    fn ids_are_the_same_on_every_node_and_in_every_version() {
        // Also: (printf "\0\0\0\0\0\0\0\11namespace\0\0\0\0\0\0\0\4shop") | sha256sum
        assert_eq!(namespace("shop"), 0x1f8f_c839_2bfa_01dc);
    }
}
