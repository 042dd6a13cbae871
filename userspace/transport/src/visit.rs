//! The calling thread inside another namespace, for the instant of one system call.

use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::abort;

use nix::sched::{CloneFlags, setns};

use crate::{Error, Netns};

/// Runs `work` inside `netns` on the calling thread, which is back in its own namespace afterwards,
/// also when `work` panics.
///
/// `work` is no future, so no other task of the thread can run before the way back. It should do
/// nothing but make a socket: that is the only call for which the thread's namespace matters.
///
/// # Aborts
/// If the kernel refuses the way back, the process ends. The thread would go on serving other
/// pods from inside this one, and neither an error nor a panic could stop tasks that are on it.
pub(crate) fn visit<T>(netns: &Netns, work: impl FnOnce() -> T) -> Result<T, Error> {
    HOME.with(|home| {
        if home.get().is_none() {
            let opened = File::open("/proc/thread-self/ns/net").map_err(Error::Home)?;
            home.set(opened.into()).expect("it was empty, and only this thread can fill it");
        }
        let home = home.get().expect("filled above");
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(Error::Enter)?;
        let _back = WayBack { home: home.as_fd() };
        Ok(work())
    })
}

thread_local! {
    /// The namespace that the thread belongs to, opened at its first visit elsewhere.
    static HOME: OnceCell<OwnedFd> = const { OnceCell::new() };
}

struct WayBack<'fd> {
    home: BorrowedFd<'fd>,
}

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        if let Err(error) = setns(self.home, CloneFlags::CLONE_NEWNET) {
            eprintln!("weft: cannot leave a pod's network namespace: {error}; ending before harm is done");
            abort();
        }
    }
}

/// Needs root.
#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use nix::sched::unshare;

    use super::*;

    #[test]
    fn the_thread_is_back_after_a_visit_and_after_a_panic_in_one() {
        let own = Netns::current().unwrap().id();
        let other = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("this test makes a network namespace: run it as root");
            Netns::current().unwrap()
        });
        let other = other.join().unwrap();
        let seen = visit(&other, || Netns::current().unwrap().id()).unwrap();
        assert_eq!((seen, Netns::current().unwrap().id()), (other.id(), own));

        let inside = AssertUnwindSafe(|| visit(&other, || panic!("{:?}", Netns::current().unwrap().id())));
        let panic = catch_unwind(inside).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>(), Some(&format!("{:?}", other.id())));
        assert_eq!(Netns::current().unwrap().id(), own);
    }
}
