//! Memory that is overwritten before it is given back, while there is something in it that no action may read.
//!
//! An action that is root among the machine's processes reads the agent's memory, freed blocks included. What a login has been in is known
//! to nobody in full: messages of gRPC, headers, buffers of TLS and HTTP are made by libraries. So all that is freed while a login is
//! here is wiped, whoever had it; and what has one runs on a thread and a runtime of its own, so that it is all freed when they end
//! ([036](../../docs/decisions/036-logins-are-asked-for-by-the-pull.md)).

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many wipe at present.
static HOLDERS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which wipes what it is given back as long as anybody holds a [`Held`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Wiping;

/// What is freed while this is held is wiped first.
struct Held;

impl Held {
    fn hold() -> Held {
        HOLDERS.fetch_add(1, Ordering::SeqCst);
        Held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HOLDERS.fetch_sub(1, Ordering::SeqCst);
    }
}

fn is_held() -> bool {
    // Who puts a secret into memory has held before, on this thread or on the one that started it.
    HOLDERS.load(Ordering::Relaxed) > 0
}

// SAFETY: all blocks are the system allocator's, and are given back to it with the layout that they were made with. What is written to
// one is written while it is the caller's to give back, and within its size.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_held() {
            // SAFETY: the block has this size, and nobody uses it any more. This write is not left out by a compiler.
            unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        }
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_held() {
            // SAFETY: as above.
            return unsafe { System.realloc(block, layout, size) };
        }
        // The system's own may move it, and leaves what was there.
        // SAFETY: the caller says that `size` with this alignment is a layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: `size` is not 0, by the contract.
        let new = unsafe { System.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both blocks have so many bytes, and are two.
            unsafe { std::ptr::copy_nonoverlapping(block, new, layout.size().min(size)) };
            // SAFETY: as the caller would have given it back.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

/// Does work on a thread and a runtime of its own, and returns when nothing of either is left in memory. It is not broken off when
/// this is dropped: the work has to end by itself.
///
/// # Errors
/// There is no thread or no runtime for it, or it panicked.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(move || {
        let held = Held::hold();
        let thread = std::thread::Builder::new()
            .name("pull".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                // On the heap, so that it is wiped with the rest.
                let done = runtime.block_on(Box::pin(work));
                // Its connections go, and its other threads have ended.
                drop(runtime);
                wipe_stack();
                io::Result::Ok(done)
            })?;
        let done = thread.join();
        drop(held);
        done.map_err(|_| io::Error::other("the pull broke down"))?
    });
    done.await.map_err(io::Error::other)?
}

/// Overwrites what lay on this thread's stack: the C library gives a stack back to the kernel, but for some pages, which it keeps for the
/// next thread.
#[inline(never)]
fn wipe_stack() {
    let mut below = [0_u8; KEPT_BYTES];
    // SAFETY: the array is ours, and has this size. This write is not left out by a compiler.
    unsafe { libc::explicit_bzero(below.as_mut_ptr().cast(), below.len()) };
}

/// Twice what glibc keeps of a stack (PTHREAD_STACK_MIN).
const KEPT_BYTES: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// Whoever holds has all tests of this process wiped.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a block that was given back. What the allocator itself writes into one is at its beginning.
    fn is_there_after(resized: bool) -> bool {
        let layout = Layout::array::<u8>(4096).expect("a layout");
        // SAFETY: the layout has a size; what is written lies within it.
        let block = unsafe {
            let block = Wiping.alloc(layout);
            assert!(!block.is_null());
            std::ptr::write_bytes(block, 0xA5, layout.size());
            block
        };
        // A large block behind it, so that it has to move.
        // SAFETY: as above; each block is given back once, with its layout.
        unsafe {
            if resized {
                let behind = Wiping.alloc(layout);
                let moved = Wiping.realloc(block, layout, 1 << 20);
                assert_ne!(moved, block);
                assert_eq!(moved.add(4095).read(), 0xA5, "what is kept is kept");
                Wiping.dealloc(moved, Layout::array::<u8>(1 << 20).expect("a layout"));
                let is_there = peek(block);
                Wiping.dealloc(behind, layout);
                is_there
            } else {
                Wiping.dealloc(block, layout);
                peek(block)
            }
        }
    }

    /// Whether the middle of a block of the heap, which is mapped still, has what was written. Read as another process would read it.
    fn peek(block: *mut u8) -> bool {
        use std::os::unix::fs::FileExt;
        let memory = std::fs::File::open("/proc/self/mem").expect("memory");
        let mut bytes = [0_u8; 256];
        memory
            .read_exact_at(&mut bytes, block as u64 + 2048)
            .expect("it is mapped");
        bytes.iter().all(|byte| *byte == 0xA5)
    }

    #[test]
    fn what_is_freed_while_somebody_holds_is_wiped() {
        let _turn = turn();
        // Else this test could not fail.
        assert!(is_there_after(false), "nothing wipes yet");
        let held = Held::hold();
        assert!(!is_there_after(false));
        assert!(!is_there_after(true));
        drop(held);
    }

    #[test]
    fn work_apart_gives_what_it_comes_to_and_a_panic_is_an_error() {
        let _turn = turn();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let done = runtime.block_on(apart(async { is_held() }));
        assert!(done.expect("done"), "what is freed meanwhile is wiped");
        let broken: io::Result<()> = runtime.block_on(apart(async { panic!("a defect") }));
        assert!(broken.is_err());
        assert!(!is_held(), "and nothing is afterwards");
    }
}
