//! The real agent of a node.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{helper, text, weft};
use crate::{Node, soon, sweep};

/// A running `weft agent`. Dropped, it is killed and `weft cleanup` takes away what it left.
pub struct Agent {
    node: Node,
    wrapper: Vec<String>,
    cgroup: Option<PathBuf>,
    arguments: Vec<String>,
    process: Option<Child>,
    beside: Option<Child>,
    clean: bool,
}

impl Agent {
    pub(crate) fn spawn(node: Node, wrapper: &[String], cgroup: Option<PathBuf>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let wrapper = wrapper.to_vec();
        let (process, beside) = (None, None);
        let mut agent = Self { node, wrapper, cgroup, arguments, process, beside, clean: true };
        agent.start();
        agent
    }

    /// Starts it again after [`Agent::stop`] or [`Agent::kill`], and does not wait for it.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "the agent is running");
        self.process = Some(self.run(&self.wrapper, &[]));
        self.clean = false;
    }

    /// Starts one more agent of the node, with `more` arguments than this one, by way of the command `wrapper`.
    pub fn start_beside(&mut self, wrapper: &[String], more: &[&str]) {
        assert!(self.beside.is_none(), "there is one already");
        self.beside = Some(self.run(wrapper, more));
    }

    /// Ends the agent by `signal`, and says how it ended; the one that was started beside it is this one from then on.
    #[track_caller]
    pub fn hand_over(&mut self, signal: Signal) -> ExitStatus {
        let process = self.process.take().expect("the agent is running");
        self.process = self.beside.take();
        assert!(self.process.is_some(), "there is no agent beside it");
        end(process, signal)
    }

    /// Ends the agent that was started beside this one by `signal`, and says how it ended.
    #[track_caller]
    pub fn end_beside(&mut self, signal: Signal) -> ExitStatus {
        end(self.beside.take().expect("there is an agent beside it"), signal)
    }

    fn run(&self, wrapper: &[String], more: &[&str]) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(self.node.log());
        let log = log.expect("the node's folder can be written");
        let mut command = command(&self.node, wrapper);
        if !self.arguments.iter().any(|argument| argument == "--kubeconfig") {
            command.arg("--manifests").arg(self.node.manifests_dir());
        }
        if let Some(cgroup) = &self.cgroup {
            command.arg("--cgroup").arg(cgroup);
        }
        command.args(&self.arguments).args(more);
        command.stdout(log.try_clone().expect("a file can be opened twice")).stderr(log);
        command.spawn().expect("the helper can be started")
    }

    /// Ends it by SIGTERM, and says how it ended.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        end(self.process.take().expect("the agent is running"), Signal::SIGTERM)
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the agent is running");
        process.kill().expect("a child can be killed");
        process.wait().expect("a child can be waited for");
    }

    /// Ends it by SIGTERM where it runs, starts it, and waits until the manifests are enforced.
    #[track_caller]
    pub fn restart(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        self.start();
        self.node.wait();
    }

    /// As [`Agent::restart`], with these arguments instead of those that it had.
    #[track_caller]
    pub fn restart_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self.restart();
    }

    /// Ends it, and takes all of it out of the kernel by `weft cleanup`.
    #[track_caller]
    pub fn cleanup(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        let output = self.node.weft(&["cleanup"]);
        assert!(output.status.success(), "weft cleanup: {}\n{}", output.status, text(&output));
        self.clean = true;
    }

    /// Waits for the end of one that was told to take everything with it: nobody has to clean up after it.
    #[track_caller]
    pub fn withdrawn(&mut self) -> ExitStatus {
        let status = self.stop();
        self.clean = true;
        status
    }

    /// Sends it a signal, such as SIGSTOP.
    pub fn signal(&self, signal: Signal) {
        send(self.process.as_ref().expect("the agent is running"), signal);
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// What it has logged so far, over all of its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.node.log()).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the agent of {}\n{}---", self.node.name(), self.log());
        }
        if sweep::keep() {
            return;
        }
        if let Some(mut beside) = self.beside.take() {
            // It may have ended by itself.
            let _ = beside.kill();
            let _ = beside.wait();
        }
        if self.clean {
            return;
        }
        if self.process.is_some() {
            self.kill();
        }
        let output = self.node.weft(&["cleanup"]);
        // A second panic would abort; the world's sweep removes the pins in any case.
        let fine = output.status.success() || thread::panicking();
        assert!(fine, "weft cleanup: {}\n{}", output.status, text(&output));
    }
}

/// `weft agent` of `node`, without `--cgroup` and without a source of objects, started by the command `wrapper`.
pub(crate) fn command(node: &Node, wrapper: &[String]) -> Command {
    let mut command = helper(["exec".as_ref(), node.agent_cgroup().as_os_str()]);
    command.args(wrapper).arg(weft()).arg("agent").args(["--node", node.name()]);
    command.arg("--run-dir").arg(node.run_dir());
    command.arg("--state-dir").arg(node.state_dir());
    command.arg("--metrics").arg(node.metrics().to_string());
    command
}

#[track_caller]
fn end(mut process: Child, signal: Signal) -> ExitStatus {
    send(&process, signal);
    let mut status = None;
    soon(|| {
        status = process.try_wait().expect("a child can be waited for");
        status.is_some()
    });
    status.expect("it has just ended")
}

fn send(process: &Child, signal: Signal) {
    let pid = i32::try_from(process.id()).expect("a process id is an i32");
    kill(Pid::from_raw(pid), signal).expect("a child can be signalled");
}
