//! CPU time.

use std::time::Duration;

use nix::time::ClockId;

/// CPU time that the calling thread used so far, in user space and in the kernel. Unlike the time by
/// a clock, it does not contain the time of other programs on a busy machine. `None` if it cannot be
/// read.
pub fn of_this_thread() -> Option<Duration> {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn cpu_time_passes_while_the_thread_works_and_not_while_it_waits() {
        const SOME: Duration = Duration::from_millis(10);
        let (begun, begun_cpu) = (Instant::now(), of_this_thread().unwrap());
        let (_sender, receiver) = mpsc::channel::<()>();
        assert!(receiver.recv_timeout(SOME * 20).is_err());
        assert!(of_this_thread().unwrap() - begun_cpu < SOME);
        while of_this_thread().unwrap() - begun_cpu < SOME {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not pass");
        }
    }
}
