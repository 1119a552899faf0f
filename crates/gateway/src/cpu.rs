//! Time that a piece of work took on one core, whatever else the machine does.

use std::{
    fs,
    time::{Duration, Instant},
};

/// The kernel counts a thread's time at its ticks, of which there are 100 to 1000 a second: what took less is timed by the clock.
const COUNTED_S: f64 = 0.05;

/// A beginning, by the thread's own time and by the clock.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    began: Instant,
    spent: Option<Duration>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), spent: thread_time() }
    }

    /// Seconds of this thread on a core since the start; never 0. Where the kernel does not tell them, and of very short times, seconds of the clock.
    pub(crate) fn seconds(&self) -> f64 {
        let counted = self.counted_s().filter(|seconds| *seconds >= COUNTED_S);
        counted.unwrap_or_else(|| self.began.elapsed().as_secs_f64()).max(1e-9)
    }

    /// Whether this thread was on a core for so long since the start; by the clock where the kernel does not tell.
    pub(crate) fn has_spent(&self, seconds: f64) -> bool {
        self.counted_s().unwrap_or_else(|| self.began.elapsed().as_secs_f64()) >= seconds
    }

    /// Seconds of this thread on a core, where the kernel tells them.
    fn counted_s(&self) -> Option<f64> {
        self.spent.zip(thread_time()).map(|(from, until)| until.saturating_sub(from).as_secs_f64())
    }
}

/// What this thread has spent on a core, as Linux tells it.
fn thread_time() -> Option<Duration> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_takes_no_time_of_a_core() {
        let watch = Stopwatch::start();
        let mut sum = 0u64;
        // Until the kernel has counted enough, however busy the machine is.
        while !watch.has_spent(2.0 * COUNTED_S) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let worked = watch.seconds();
        std::thread::sleep(Duration::from_millis(200));
        let waited = watch.seconds() - worked;
        assert!(watch.counted_s().is_none() || (worked >= COUNTED_S && waited < 0.05), "{worked} {waited}");
    }
}
