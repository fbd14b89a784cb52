//! What the standard library does not reach: extended attributes and the kind of a file system.
//!
//! The one place of this crate with `unsafe` code, kill points aside.

use std::{borrow::Cow, collections::BTreeMap, fs::File, io, path::Path};

/// Attributes of ours begin so; `user.` is the namespace that ordinary processes may write.
#[cfg(target_os = "linux")]
const PREFIX: &str = "user.kas3.";

/// Writes metadata as extended attributes. `Ok(false)` when the file system keeps none.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn write_metadata(file: &File, metadata: &[(Cow<'static, str>, String)]) -> io::Result<bool> {
    use std::{ffi::CString, os::fd::AsRawFd};
    for (key, value) in metadata {
        let name = CString::new(format!("{PREFIX}{key}"))?;
        // SAFETY: the descriptor is open for the length of the call, the name ends in a zero byte, and value and length
        // describe one buffer that the call only reads.
        let result = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        if result != 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ENOTSUP) { Ok(false) } else { Err(error) };
        }
    }
    Ok(true)
}

/// Reads the metadata that [`write_metadata`] wrote.
#[cfg(target_os = "linux")]
pub(super) fn read_metadata(file: &File) -> io::Result<BTreeMap<String, String>> {
    let Some(names) = read_grown(|buffer| list_names(file, buffer))? else { return Ok(BTreeMap::new()) };
    let mut metadata = BTreeMap::new();
    for name in names.split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let name = std::ffi::CString::new(name)?;
        if let Some(value) = read_grown(|buffer| get_value(file, &name, buffer))? {
            metadata.insert(key.to_owned(), String::from_utf8_lossy(&value).into_owned());
        }
    }
    Ok(metadata)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn list_names(file: &File, buffer: &mut [u8]) -> libc::ssize_t {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open, and pointer and length describe one buffer that is ours to write.
    unsafe { libc::flistxattr(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn get_value(file: &File, name: &std::ffi::CStr, buffer: &mut [u8]) -> libc::ssize_t {
    use std::os::fd::AsRawFd;
    // SAFETY: as above, and the name ends in a zero byte.
    unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
}

/// Calls `read` with larger buffers until the answer fits; `None` when the attribute or the support for it is not there.
#[cfg(target_os = "linux")]
fn read_grown(mut read: impl FnMut(&mut [u8]) -> libc::ssize_t) -> io::Result<Option<Vec<u8>>> {
    /// The kernel's own limit for one attribute and for a list of names.
    const BYTES_MAX: usize = 64 << 10;
    let mut buffer = vec![0; 1024];
    loop {
        if let Ok(length) = usize::try_from(read(&mut buffer)) {
            buffer.truncate(length);
            return Ok(Some(buffer));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ERANGE) if buffer.len() < BYTES_MAX => buffer.resize(buffer.len() * 4, 0),
            Some(libc::ENOTSUP | libc::ENODATA) => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// Names the network file system on which a folder lies; `None` for a local one.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn network_file_system(folder: &Path) -> io::Result<Option<&'static str>> {
    use std::{ffi::CString, mem::MaybeUninit, os::unix::ffi::OsStrExt};
    /// From `linux/magic.h` and the file systems' own headers.
    const NETWORK: [(u32, &str); 16] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x6573_5546, "FUSE"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x6b41_4653, "AFS"),
        (0x0102_1997, "9P"),
        (0x0bd0_0bd0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x7461_636f, "OCFS2"),
        (0x0116_1970, "GFS2"),
        (0x1983_0326, "BeeGFS"),
        (0x7375_7245, "Coda"),
        (0x786f_4256, "VirtualBox shared folders"),
    ];
    let name = CString::new(folder.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the name ends in a zero byte and the answer points to memory of the right size.
    if unsafe { libc::statfs(name.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and has filled the structure.
    let kind = unsafe { answer.assume_init() }.f_type;
    // The kernel's magic numbers have 32 bits; the field's width differs between platforms.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
    let kind = kind as u32;
    Ok(NETWORK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name))
}

/// Elsewhere metadata is not kept: callers see `None` and compare contents instead.
#[cfg(not(target_os = "linux"))]
pub(super) fn write_metadata(_: &File, _: &[(Cow<'static, str>, String)]) -> io::Result<bool> {
    Ok(false)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read_metadata(_: &File) -> io::Result<BTreeMap<String, String>> {
    Ok(BTreeMap::new())
}

/// Elsewhere the kind of a file system is not known.
#[cfg(not(target_os = "linux"))]
pub(super) fn network_file_system(_: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}
