//! How soon a changed manifest is obeyed.

use std::fs;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Milliseconds from rename(2) to the end of the first connection that reaches the new backend: an upper
/// bound, by the pause and the duration of one connection (some 0.3 ms).
pub(super) fn measure(
    to: SocketAddr,
    file: &Path,
    texts: &[String; 2],
    count: usize,
) -> io::Result<Vec<f64>> {
    let draft = file.with_file_name(".draft");
    let turns = (0..count).zip([(1, b'g'), (0, b'b')].into_iter().cycle());
    turns
        .map(|(turn, (text, letter))| {
            // Uneven, so that no timer of the agent is in step.
            thread::sleep(Duration::from_millis(30 + turn as u64 * 17 % 40));
            fs::write(&draft, &texts[text])?;
            let start = Instant::now();
            fs::rename(&draft, file)?;
            while asked(to)? != letter {
                if start.elapsed() > LIMIT {
                    return Err(io::Error::other("a change was not obeyed within 5 s"));
                }
                thread::sleep(PAUSE);
            }
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })
        .collect()
}

fn asked(to: SocketAddr) -> io::Result<u8> {
    let mut letter = [0];
    TcpStream::connect(to)?.read_exact(&mut letter)?;
    Ok(letter[0])
}

/// Leaves the CPU to the agent most of the time.
const PAUSE: Duration = Duration::from_micros(200);
const LIMIT: Duration = Duration::from_secs(5);
