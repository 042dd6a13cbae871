//! HTTP/1.1 requests at a rate that no answer slows down.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::http;

/// p50 and p99 in microseconds.
///
/// Requests are due at fixed times, whatever became of those before. One that finds no free connection waits for one,
/// and its time begins when it was due: a server that stalls is asked no less, and no wait is left out.
pub(super) fn measure(to: SocketAddr, connections: usize, rate: f64, lasts: Duration) -> Result<Vec<f64>> {
    let mut run = Run::start(to, connections, rate)?;
    let mut events = Vec::with_capacity(connections + 1);
    while run.began.elapsed() < WARM_UP + lasts {
        run.send_what_is_due()?;
        run.wake_when_the_next_is_due()?;
        epoll::wait(&run.epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            match usize::try_from(event.data.u64()).expect("it is an index") {
                TIMER => {
                    // One that was set anew meanwhile has nothing to read.
                    let _ = rustix::io::read(&run.timer, &mut [0_u8; 8]);
                }
                index => run.read(index)?,
            }
        }
    }
    let behind = run.due.len();
    ensure!(behind < 1000, "{behind} requests wait at {rate:.0} /s: the path does not carry that");
    let mut took = run.took;
    ensure!(!took.is_empty(), "no answer within {lasts:?}");
    took.sort_unstable();
    let quantile = |percent: usize| took[took.len() * percent / 100].as_secs_f64() * 1e6;
    Ok(vec![quantile(50), quantile(99)])
}

struct Run {
    epoll: std::os::fd::OwnedFd,
    timer: std::os::fd::OwnedFd,
    clients: Vec<Client>,
    /// Those that nothing is under way on.
    free: Vec<usize>,
    /// When the requests that wait for a connection were due.
    due: VecDeque<Duration>,
    began: Instant,
    interval: Duration,
    /// When the next request is due, after the beginning.
    next: Duration,
    took: Vec<Duration>,
}

struct Client {
    stream: TcpStream,
    answer: http::Answer,
    /// When its request was due.
    due: Duration,
}

impl Run {
    fn start(to: SocketAddr, connections: usize, rate: f64) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER as u64), epoll::EventFlags::IN)?;
        let mut clients = Vec::with_capacity(connections);
        for index in 0..connections {
            let stream = TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
            clients.push(Client { stream, answer: http::Answer::default(), due: Duration::ZERO });
        }
        let (free, interval) = ((0..connections).collect(), Duration::from_secs_f64(1.0 / rate));
        let (due, took) = (VecDeque::new(), Vec::with_capacity(100_000));
        let began = Instant::now();
        Ok(Self { epoll, timer, clients, free, due, began, interval, next: interval, took })
    }

    fn send_what_is_due(&mut self) -> io::Result<()> {
        let now = self.began.elapsed();
        while self.next <= now {
            self.due.push_back(self.next);
            self.next += self.interval;
        }
        while !self.due.is_empty()
            && let Some(index) = self.free.pop()
        {
            let client = &mut self.clients[index];
            client.due = self.due.pop_front().expect("one is there");
            client.stream.write_all(http::GET)?;
        }
        Ok(())
    }

    fn wake_when_the_next_is_due(&self) -> io::Result<()> {
        // Zero would stop the timer.
        let left = self.next.saturating_sub(self.began.elapsed()).max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(left).map_err(io::Error::other)?;
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// The one that came back longest ago is used last, as in most pools.
    fn read(&mut self, index: usize) -> io::Result<()> {
        let Client { stream, answer, due } = &mut self.clients[index];
        if answer.read(stream)? {
            if *due >= WARM_UP {
                self.took.push(self.began.elapsed().saturating_sub(*due));
            }
            self.free.push(index);
        }
        Ok(())
    }
}

/// Reads what is left of an answer at once in most cases.
impl http::Answer {
    fn read(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        let len = stream.read(&mut bytes)?;
        self.take(&bytes[..len])
    }
}

const TIMER: usize = usize::MAX >> 1;
/// Connections open, caches fill.
const WARM_UP: Duration = Duration::from_millis(300);
