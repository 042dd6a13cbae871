//! What an `sk_storage` map holds comes with the list of sockets. Needs root.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(unsafe_code, reason = "aya belongs to the datapath crate; three bpf(2) calls do here")]

use std::ffi::c_long;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use weft_transport::{Diag, Netns, Query, States, socket_cookie};

#[test]
fn each_socket_comes_with_its_own_value_or_none() {
    let map = storage_map();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    store(&map, &clients[0], 0xfeed);
    store(&map, &clients[1], 7);

    let query = Query::tcp(States::LIVE).with_storage(map.as_fd());
    let sockets = Diag::open(&Netns::current().unwrap()).unwrap().sockets(&query).unwrap();
    let values = clients.iter().map(|client| {
        let cookie = socket_cookie(client.as_fd()).unwrap();
        sockets.iter().find(|socket| socket.cookie == cookie).unwrap().storage.clone()
    });
    let expected =
        [Some(0xfeed_u64), Some(7), None].map(|value| value.map(|value| value.to_ne_bytes().to_vec()));
    assert_eq!(values.collect::<Vec<_>>(), expected);
}

/// A map of socket → u64, described by the smallest BTF that the kernel takes.
fn storage_map() -> OwnedFd {
    let mut btf: Vec<u8> = vec![0x9f, 0xeb, 1, 0];
    let int = |size: u32, bits: u32| [1, 1 << 24, size, bits];
    for word in [24, 0, 32, 32, 5].into_iter().chain(int(4, 32)).chain(int(8, 64)) {
        btf.extend(word.to_ne_bytes());
    }
    btf.extend(b"\0int\0");
    let mut load = [0_u64; 4];
    load[0] = btf.as_ptr() as u64;
    load[2] = btf.len() as u64;
    let btf_fd = owned(bpf(BTF_LOAD, &load));

    let mut create = [0_u32; 16];
    create[..5].copy_from_slice(&[SK_STORAGE, 4, 8, 0, NO_PREALLOC]);
    create[12..15].copy_from_slice(&[btf_fd.as_raw_fd().cast_unsigned(), 1, 2]);
    owned(bpf(MAP_CREATE, &create))
}

fn store(map: &OwnedFd, socket: &TcpStream, value: u64) {
    let key = socket.as_raw_fd();
    let pointers = [&raw const key as u64, &raw const value as u64];
    bpf(MAP_UPDATE, &[u64::from(map.as_raw_fd().cast_unsigned()), pointers[0], pointers[1], 0]);
}

fn bpf<T>(command: c_long, attributes: &[T]) -> c_long {
    // SAFETY: `attributes` outlives the call, its size is the one given, and what it points to (the
    // BTF, a key, a value) is kept by the caller until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    assert!(result >= 0, "bpf({command}): {}; run this test as root", std::io::Error::last_os_error());
    result
}

fn owned(fd: c_long) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

const MAP_CREATE: c_long = 0;
const MAP_UPDATE: c_long = 2;
const BTF_LOAD: c_long = 18;
const SK_STORAGE: u32 = 24;
const NO_PREALLOC: u32 = 1;
