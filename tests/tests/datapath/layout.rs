//! Kernel and user space read the same bytes.

use weft_abi::names;

#[test]
fn the_built_object_has_every_shared_type_as_the_golden_layout_says() {
    let golden = include_str!("../../../ebpf/abi/layout.txt");
    let compared = weft_datapath::check_layout().unwrap();
    for name in &compared {
        assert!(
            golden.lines().any(|line| line.split(' ').next() == Some(name)),
            "{name} is not in layout.txt"
        );
    }
    for name in
        ["Config", "Pod", "PodRow", "ServiceRow", "Slot", "Backend", "PolicyRow", "FlowRecord", "SocketState"]
    {
        assert!(compared.contains(&name), "{name} is not in the object's BTF");
    }
}

#[test]
fn every_name_in_the_kernel_is_ours_to_see_and_stands_once() {
    let mut seen = std::collections::BTreeSet::new();
    for name in names::map::ALL.iter().chain(names::program::ALL) {
        assert!(name.starts_with("weft_") && name.len() <= 15, "{name}");
        assert!(seen.insert(name), "{name} stands twice");
    }
}
