//! The system call filters of a running process, as the kernel has them (seccomp(2)), and what they say.

use std::process::Command;

/// Asks the kernel for each filter and prints it on a line: `code,jt,jf,k` with blanks between instructions.
/// `PTRACE_SECCOMP_GET_FILTER` is in none of the libraries, and neither is unsafe code in these tests.
const READ: &str = r#"
import ctypes, os, sys
SEIZE, INTERRUPT, DETACH, GET_FILTER, WALL = 0x4206, 0x4207, 17, 0x420c, 0x40000000
class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
pid = int(sys.argv[1])
def ptrace(request, address=0, data=None):
    done = libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address), data)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done
ptrace(SEIZE)
ptrace(INTERRUPT)
os.waitpid(pid, WALL)
try:
    for index in range(100):
        try:
            count = ptrace(GET_FILTER, index)
        except FileNotFoundError:
            break
        filter = (Instruction * count)()
        ptrace(GET_FILTER, index, filter)
        print(*("%d,%d,%d,%d" % (one.code, one.jt, one.jf, one.k) for one in filter))
finally:
    ptrace(DETACH)
"#;

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Carries it out.
    Allow,
    /// Carries it out and writes it into its log.
    Log,
    /// Fails it with this error.
    Errno(i32),
    /// Ends the process.
    Kill,
    /// Anything else.
    Other(u32),
}

/// All filters of a process.
pub struct Filters(Vec<Vec<[u32; 4]>>);

/// `AUDIT_ARCH_…` of `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

impl Filters {
    /// Those of a running process, or why they cannot be had: only root of the machine may see them.
    pub fn of(pid: u32) -> Result<Self, String> {
        let output = Command::new("python3").args(["-c", READ, &pid.to_string()]).output();
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned());
        }
        let number = |word: &str| word.parse::<u32>().expect("numbers were printed");
        let instruction = |words: &str| {
            let numbers: Vec<u32> = words.split(',').map(number).collect();
            numbers.try_into().expect("four each")
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Self(text.lines().map(|line| line.split(' ').map(instruction).collect()).collect()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What happens to a call: the strictest of all filters' answers.
    pub fn verdict(&self, call: i64, arguments: &[u64]) -> Verdict {
        let mut data = [0_u32; 16];
        data[0] = u32::try_from(call).expect("calls are small numbers");
        data[1] = ARCH;
        for (argument, words) in arguments.iter().zip(data[4..].chunks_mut(2)) {
            words[0] = *argument as u32;
            words[1] = (*argument >> 32) as u32;
        }
        let answers = self.0.iter().map(|filter| evaluate(filter, &data));
        // As the kernel compares them, signed: killing the process comes before everything.
        let strictest = answers.min_by_key(|answer| (answer & 0xffff_0000).cast_signed());
        match strictest {
            None | Some(0x7fff_0000) => Verdict::Allow,
            Some(0x7ffc_0000) => Verdict::Log,
            Some(0x8000_0000) => Verdict::Kill,
            Some(answer) if answer >> 16 == 5 => Verdict::Errno((answer & 0xffff).cast_signed()),
            Some(answer) => Verdict::Other(answer),
        }
    }
}

/// Runs a filter on `struct seccomp_data`, in words of 32 bits of a little-endian machine.
fn evaluate(filter: &[[u32; 4]], data: &[u32; 16]) -> u32 {
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let [code, jump_true, jump_false, k] = filter[at];
        at += 1;
        let mut jump_if = |condition: bool| at += (if condition { jump_true } else { jump_false }) as usize;
        match code {
            0x20 => accumulator = data[k as usize / 4],
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => jump_if(accumulator == k),
            0x25 => jump_if(accumulator > k),
            0x35 => jump_if(accumulator >= k),
            0x45 => jump_if(accumulator & k != 0),
            0x06 => return k,
            other => panic!("instruction {other:#x} is not one that filters are made of here"),
        }
    }
}
