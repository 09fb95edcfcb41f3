//! Owned and borrowed libnftnl objects. All unsafe access to libnftnl's memory is in this file.
//!
//! libnftnl copies values that are set, and owns values that it returns. Attributes are numbers,
//! and a value of the wrong length makes it abort or read out of bounds. So only the files next to
//! this one name attributes, each with its type according to the header
//! (libnftnl/{table,chain,set,rule,expr}.h).
#![allow(unsafe_code, reason = "libnftnl is a C library")]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::{mem, slice};

use nftnl::nftnl_sys as sys;
use sys::libc::nlmsghdr;

/// A libnftnl type with the usual functions to allocate, set, get and free.
///
/// # Safety
/// The functions must belong to this type: `set` copies `length` bytes; `get` returns null or a
/// pointer that is valid until the object changes, with its length.
pub(super) unsafe trait NftnlObject {
    unsafe fn free(raw: NonNull<Self>);
    unsafe fn set(raw: NonNull<Self>, attribute: u16, data: *const c_void, length: u32);
    unsafe fn get(raw: NonNull<Self>, attribute: u16, length: &mut u32) -> *const c_void;
    unsafe fn is_set(raw: NonNull<Self>, attribute: u16) -> bool;
}

/// A type with a netlink message of its own.
///
/// # Safety
/// As [`NftnlObject`]; `build` writes at most the longest message, and `parse` reads one message.
pub(super) unsafe trait Message: NftnlObject {
    unsafe fn alloc() -> *mut Self;
    unsafe fn build(header: *mut nlmsghdr, raw: NonNull<Self>);
    unsafe fn parse(header: *const nlmsghdr, raw: NonNull<Self>) -> c_int;
}

/// An owned object.
pub(super) struct Owned<T: NftnlObject>(NonNull<T>);

/// A borrowed object that is part of another.
pub(super) struct Borrowed<'a, T: NftnlObject>(NonNull<T>, PhantomData<&'a T>);

impl<T: NftnlObject> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: owned, allocated by `alloc` of its kind, and freed nowhere else.
        unsafe { T::free(self.0) }
    }
}

impl<T: Message> Owned<T> {
    pub(super) fn new() -> Self {
        // SAFETY: takes no arguments; null is checked.
        Self(not_null(unsafe { T::alloc() }))
    }

    /// Parses the object of a message.
    pub(super) fn parse(message: &Aligned<'_>) -> Option<Self> {
        let object = Self::new();
        // SAFETY: `Aligned` is a whole message with its length within the bytes and aligned for a
        // header; the object is a new one of this kind.
        let parsed = unsafe { T::parse(message.header(), object.0) };
        (parsed >= 0).then_some(object)
    }

    /// Writes the attributes to a message.
    pub(super) fn build(&self, header: &mut MessageHeader<'_>) {
        // SAFETY: `MessageHeader` has room for the longest message.
        unsafe { T::build(header.0, self.0) }
    }
}

impl<T: NftnlObject> Owned<T> {
    pub(super) fn u8(self, attribute: u32, value: u8) -> Self {
        self.bytes(attribute, &[value])
    }

    pub(super) fn u32(self, attribute: u32, value: u32) -> Self {
        self.bytes(attribute, &value.to_ne_bytes())
    }

    pub(super) fn u64(self, attribute: u32, value: u64) -> Self {
        self.bytes(attribute, &value.to_ne_bytes())
    }

    /// Sets a string attribute; a NUL ends the string.
    pub(super) fn text(self, attribute: u32, value: &str) -> Self {
        let bytes: Vec<u8> = value.bytes().take_while(|byte| *byte != 0).collect();
        let text = CString::new(bytes).unwrap_or_default();
        self.bytes(attribute, text.as_bytes_with_nul())
    }

    /// Sets bytes. Their length must be that of the attribute; data attributes take any length.
    pub(super) fn bytes(self, attribute: u32, value: &[u8]) -> Self {
        let (Ok(attribute), Ok(length)) = (u16::try_from(attribute), u32::try_from(value.len()))
        else {
            return self;
        };
        // SAFETY: copies `length` bytes from `value`, which has that length.
        unsafe { T::set(self.0, attribute, value.as_ptr().cast(), length) };
        self
    }

    pub(super) fn borrow(&self) -> Borrowed<'_, T> {
        Borrowed(self.0, PhantomData)
    }
}

impl<'a, T: NftnlObject> Borrowed<'a, T> {
    pub(super) fn get_u32(&self, attribute: u32) -> Option<u32> {
        self.get(attribute)?.try_into().ok().map(u32::from_ne_bytes)
    }

    pub(super) fn get_u64(&self, attribute: u32) -> Option<u64> {
        self.get(attribute)?.try_into().ok().map(u64::from_ne_bytes)
    }

    pub(super) fn get_u8(&self, attribute: u32) -> Option<u8> {
        self.get(attribute)?.first().copied()
    }

    /// String attribute; `None` if it is missing or not UTF-8.
    pub(super) fn get_text(&self, attribute: u32) -> Option<&'a str> {
        let raw = self.pointer(attribute)?.0;
        // SAFETY: the attribute is one that libnftnl stores as a NUL-terminated string.
        unsafe { CStr::from_ptr(raw.cast::<c_char>()) }.to_str().ok()
    }

    /// The bytes of an attribute; `None` if it is missing.
    pub(super) fn get(&self, attribute: u32) -> Option<&'a [u8]> {
        let (raw, length) = self.pointer(attribute)?;
        // SAFETY: the object holds this many bytes and outlives the borrow; `Borrowed` has no method
        // that changes it.
        Some(unsafe { std::slice::from_raw_parts(raw.cast(), length) })
    }

    pub(super) fn has(&self, attribute: u32) -> bool {
        let Ok(attribute) = u16::try_from(attribute) else { return false };
        // SAFETY: read-only.
        unsafe { T::is_set(self.0, attribute) }
    }

    fn pointer(&self, attribute: u32) -> Option<(*const c_void, usize)> {
        if !self.has(attribute) {
            return None;
        }
        let mut length = 0;
        // SAFETY: read-only.
        let raw = unsafe { T::get(self.0, u16::try_from(attribute).ok()?, &mut length) };
        (!raw.is_null()).then_some((raw, usize::try_from(length).ok()?))
    }
}

/// Out of memory is fatal, as everywhere in Rust.
fn not_null<T>(raw: *mut T) -> NonNull<T> {
    NonNull::new(raw)
        .unwrap_or_else(|| std::alloc::handle_alloc_error(std::alloc::Layout::new::<nlmsghdr>()))
}

/// A message being written, with room for the longest one.
pub(super) struct MessageHeader<'a>(*mut nlmsghdr, PhantomData<&'a mut nlmsghdr>);

/// Buffer for one message: [`nftnl::nft_nlmsg_maxsize`] with the largest page size. Numbers, because
/// they are aligned for a header.
pub(super) struct Scratch(Vec<u64>);

thread_local! {
    /// A buffer for the next batch: to clear a new one would take as long as a small commit.
    static SPARE: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Fails when the thread ends.
        let _ = SPARE.try_with(|spare| spare.set(mem::take(&mut self.0)));
    }
}

impl Scratch {
    const SIZE: usize = (1 << 16) + (1 << 16);

    pub(super) fn new() -> Self {
        let mut buffer = SPARE.take();
        buffer.resize(Self::SIZE / size_of::<u64>(), 0);
        Self(buffer)
    }

    /// Writes a message and returns its bytes.
    pub(super) fn write(
        &mut self,
        kind: u16,
        family: u16,
        flags: u16,
        sequence: u32,
        body: impl FnOnce(&mut MessageHeader<'_>),
    ) -> &[u8] {
        let start = self.0.as_mut_ptr().cast::<c_char>();
        // SAFETY: the buffer is aligned for a header and longer than one.
        let raw = unsafe { sys::nftnl_nlmsg_build_hdr(start, kind, family, flags, sequence) };
        body(&mut MessageHeader(raw, PhantomData));
        self.written()
    }

    /// Writes the message that begins (NFNL_MSG_BATCH_BEGIN) or ends a batch.
    pub(super) fn write_bound(
        &mut self,
        begins: bool,
        sequence: u32,
        body: impl FnOnce(&mut MessageHeader<'_>),
    ) -> &[u8] {
        let start = self.0.as_mut_ptr().cast::<c_char>();
        // SAFETY: as in `write`.
        let raw = unsafe {
            match begins {
                true => sys::nftnl_batch_begin(start, sequence),
                false => sys::nftnl_batch_end(start, sequence),
            }
        };
        body(&mut MessageHeader(raw, PhantomData));
        self.written()
    }

    fn written(&self) -> &[u8] {
        // SAFETY: any initialized memory is bytes.
        let bytes = unsafe {
            slice::from_raw_parts(self.0.as_ptr().cast::<u8>(), size_of_val(self.0.as_slice()))
        };
        let length = bytes.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length));
        let length = usize::try_from(length).unwrap_or_default();
        bytes.get(..length).unwrap_or_default()
    }
}

impl MessageHeader<'_> {
    /// Adds a big-endian number.
    pub(super) fn be32(&mut self, attribute: u16, value: u32) {
        // SAFETY: the message has room.
        unsafe { mnl::mnl_sys::mnl_attr_put_u32(self.0, attribute, value.to_be()) }
    }

    /// Adds bytes, at most 64 KiB with the attribute's header. More are left out, so that the kernel
    /// refuses the message.
    pub(super) fn bytes(&mut self, attribute: u16, value: &[u8]) {
        if value.len() > usize::from(u16::MAX) - 4 {
            return;
        }
        // SAFETY: the message has room for one such value and names besides; copies from `value`,
        // which has that length.
        unsafe {
            mnl::mnl_sys::mnl_attr_put(self.0, attribute, value.len(), value.as_ptr().cast());
        }
    }

    /// Adds nested attributes.
    pub(super) fn nest(&mut self, attribute: u16, body: impl FnOnce(&mut Self)) {
        // SAFETY: the message has room; the attribute that begins is the one that ends.
        unsafe {
            let start = mnl::mnl_sys::mnl_attr_nest_start(self.0, attribute);
            body(self);
            mnl::mnl_sys::mnl_attr_nest_end(self.0, start);
        }
    }

    /// Adds a string.
    pub(super) fn text(&mut self, attribute: u16, value: &str) {
        let text = CString::new(value).unwrap_or_default();
        // SAFETY: as above; the string is NUL-terminated.
        unsafe { mnl::mnl_sys::mnl_attr_put_strz(self.0, attribute, text.as_ptr()) }
    }
}

/// A received message, complete and aligned.
pub(super) struct Aligned<'a>(&'a [u8]);

impl<'a> Aligned<'a> {
    /// Checks a message; `None` if it is incomplete or not aligned for a header.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let [a, b, c, d, ..] = *bytes else { return None };
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
        let fits = length >= size_of::<nlmsghdr>() && length <= bytes.len();
        (fits && bytes.as_ptr().cast::<nlmsghdr>().is_aligned()).then_some(Self(bytes))
    }

    fn header(&self) -> *const nlmsghdr {
        self.0.as_ptr().cast()
    }
}

/// Implements [`NftnlObject`] with the functions of a libnftnl type.
macro_rules! kind {
    ($kind:ident, $free:ident, $set:ident, $get:ident, $is_set:ident) => {
        // SAFETY: the functions belong to this type.
        unsafe impl NftnlObject for sys::$kind {
            unsafe fn free(raw: NonNull<Self>) {
                // SAFETY: the caller's guarantee is the function's requirement.
                unsafe { sys::$free(raw.as_ptr()) }
            }
            unsafe fn set(raw: NonNull<Self>, attribute: u16, data: *const c_void, length: u32) {
                // SAFETY: the caller's guarantee is the function's requirement.
                unsafe { sys::$set(raw.as_ptr(), attribute, data, length) };
            }
            unsafe fn get(raw: NonNull<Self>, attribute: u16, length: &mut u32) -> *const c_void {
                // SAFETY: the caller's guarantee is the function's requirement.
                unsafe { sys::$get(raw.as_ptr(), attribute, length) }
            }
            unsafe fn is_set(raw: NonNull<Self>, attribute: u16) -> bool {
                // SAFETY: the caller's guarantee is the function's requirement.
                unsafe { sys::$is_set(raw.as_ptr(), attribute) }
            }
        }
    };
}

/// Implements [`Message`] with the functions of a libnftnl type.
macro_rules! message {
    ($kind:ident, $alloc:ident, $build:ident, $parse:ident) => {
        // SAFETY: the functions belong to this type.
        unsafe impl Message for sys::$kind {
            unsafe fn alloc() -> *mut Self {
                // SAFETY: the caller's guarantee is the function's requirement.
                unsafe { sys::$alloc() }
            }
            unsafe fn build(header: *mut nlmsghdr, raw: NonNull<Self>) {
                // SAFETY: the caller's guarantee is the function's requirement.
                unsafe { sys::$build(header, raw.as_ptr()) }
            }
            unsafe fn parse(header: *const nlmsghdr, raw: NonNull<Self>) -> c_int {
                // SAFETY: the caller's guarantee is the function's requirement.
                unsafe { sys::$parse(header, raw.as_ptr()) }
            }
        }
    };
}

kind!(
    nftnl_table,
    nftnl_table_free,
    nftnl_table_set_data,
    nftnl_table_get_data,
    nftnl_table_is_set
);
message!(nftnl_table, nftnl_table_alloc, nftnl_table_nlmsg_build_payload, nftnl_table_nlmsg_parse);
kind!(
    nftnl_chain,
    nftnl_chain_free,
    nftnl_chain_set_data,
    nftnl_chain_get_data,
    nftnl_chain_is_set
);
message!(nftnl_chain, nftnl_chain_alloc, nftnl_chain_nlmsg_build_payload, nftnl_chain_nlmsg_parse);
kind!(nftnl_rule, nftnl_rule_free, nftnl_rule_set_data, nftnl_rule_get_data, nftnl_rule_is_set);
message!(nftnl_rule, nftnl_rule_alloc, nftnl_rule_nlmsg_build_payload, nftnl_rule_nlmsg_parse);
kind!(nftnl_set, nftnl_set_free, nftnl_set_set_data, nftnl_set_get_data, nftnl_set_is_set);
message!(nftnl_set, nftnl_set_alloc, nftnl_set_nlmsg_build_payload, nftnl_set_nlmsg_parse);
kind!(nftnl_expr, nftnl_expr_free, nftnl_expr_set, nftnl_expr_get, nftnl_expr_is_set);
kind!(
    nftnl_set_elem,
    nftnl_set_elem_free,
    nftnl_set_elem_set,
    nftnl_set_elem_get,
    nftnl_set_elem_is_set
);

/// An expression of a rule.
pub(super) type RawExpression = Owned<sys::nftnl_expr>;

impl Owned<sys::nftnl_expr> {
    pub(super) fn named(name: &CStr) -> Self {
        // SAFETY: a NUL-terminated string; null is checked. libnftnl has known all names used here
        // since 1.1.
        Self(not_null(unsafe { sys::nftnl_expr_alloc(name.as_ptr()) }))
    }

    /// Releases ownership.
    fn into_raw(self) -> *mut sys::nftnl_expr {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }
}

impl Owned<sys::nftnl_rule> {
    pub(super) fn expression(self, expression: RawExpression) -> Self {
        // SAFETY: both are valid; the rule owns the expression from here on.
        unsafe { sys::nftnl_rule_add_expr(self.0.as_ptr(), expression.into_raw()) };
        self
    }

    /// Applies `read` to each expression, in order.
    pub(super) fn expressions<R>(
        &self,
        read: impl Fn(Borrowed<'_, sys::nftnl_expr>) -> R,
    ) -> Vec<R> {
        let mut all = Vec::new();
        // SAFETY: the rule does not change until the iterator is destroyed below; the iterator
        // returns its expressions, then null.
        unsafe {
            let iterator = not_null(sys::nftnl_expr_iter_create(self.0.as_ptr()));
            while let Some(raw) = NonNull::new(sys::nftnl_expr_iter_next(iterator.as_ptr())) {
                all.push(read(Borrowed(raw, PhantomData)));
            }
            sys::nftnl_expr_iter_destroy(iterator.as_ptr());
        }
        all
    }
}

/// An element of a set.
pub(super) type RawElement = Owned<sys::nftnl_set_elem>;

impl Owned<sys::nftnl_set_elem> {
    pub(super) fn element() -> Self {
        // SAFETY: takes no arguments; null is checked.
        Self(not_null(unsafe { sys::nftnl_set_elem_alloc() }))
    }
}

impl Borrowed<'_, sys::nftnl_set_elem> {
    /// Applies `read` to each expression of the element.
    pub(super) fn expressions<R>(
        &self,
        read: impl Fn(&Borrowed<'_, sys::nftnl_expr>) -> R,
    ) -> Vec<R> {
        listed(read, |list| {
            // SAFETY: calls `note` with each expression and the list, and returns.
            unsafe { sys::nftnl_set_elem_expr_foreach(self.0.as_ptr(), Some(note), list) };
        })
    }
}

/// Applies `read` to each expression that `each` puts on a list. The expressions must outlive the
/// call.
fn listed<R>(
    read: impl Fn(&Borrowed<'_, sys::nftnl_expr>) -> R,
    each: impl FnOnce(*mut c_void),
) -> Vec<R> {
    let mut found: Vec<*mut sys::nftnl_expr> = Vec::new();
    let list: *mut Vec<_> = &raw mut found;
    each(list.cast());
    let parts = found.into_iter().filter_map(NonNull::new);
    parts.map(|raw| read(&Borrowed(raw, PhantomData))).collect()
}

/// Appends an expression to a list.
///
/// # Safety
/// `list` points to a `Vec` of such expressions that nothing else uses during the call.
unsafe extern "C" fn note(expression: *mut sys::nftnl_expr, list: *mut c_void) -> c_int {
    // SAFETY: as above.
    let list = unsafe { &mut *list.cast::<Vec<*mut sys::nftnl_expr>>() };
    list.push(expression);
    0
}

impl Owned<sys::nftnl_set> {
    /// Gives each element of the set this expression.
    pub(super) fn expression(self, expression: RawExpression) -> Self {
        // SAFETY: both are valid; the set owns the expression from here on.
        unsafe { sys::nftnl_set_add_expr(self.0.as_ptr(), expression.into_raw()) };
        self
    }

    /// Applies `read` to each of the set's expressions.
    pub(super) fn expressions<R>(
        &self,
        read: impl Fn(&Borrowed<'_, sys::nftnl_expr>) -> R,
    ) -> Vec<R> {
        listed(read, |list| {
            // SAFETY: calls `note` with each expression and the list, and returns.
            unsafe { sys::nftnl_set_expr_foreach(self.0.as_ptr(), Some(note), list) };
        })
    }

    pub(super) fn add(&mut self, element: RawElement) {
        let raw = element.0.as_ptr();
        std::mem::forget(element);
        // SAFETY: both are valid; the set owns the element from here on.
        unsafe { sys::nftnl_set_elem_add(self.0.as_ptr(), raw) }
    }

    /// Applies `read` to each element in a message.
    pub(super) fn elements<R>(
        message: &Aligned<'_>,
        mut read: impl FnMut(Borrowed<'_, sys::nftnl_set_elem>) -> R,
    ) -> Option<Vec<R>> {
        let set = Self::new();
        // SAFETY: as in `parse`.
        if unsafe { sys::nftnl_set_elems_nlmsg_parse(message.header(), set.0.as_ptr()) } < 0 {
            return None;
        }
        let mut all = Vec::new();
        // SAFETY: as in `expressions`.
        unsafe {
            let iterator = not_null(sys::nftnl_set_elems_iter_create(set.0.as_ptr()));
            while let Some(raw) = NonNull::new(sys::nftnl_set_elems_iter_next(iterator.as_ptr())) {
                all.push(read(Borrowed(raw, PhantomData)));
            }
            sys::nftnl_set_elems_iter_destroy(iterator.as_ptr());
        }
        Some(all)
    }

    /// Writes the elements to as many messages as needed. `message` writes one, using the given
    /// function for its body.
    pub(super) fn write_elements(
        &self,
        mut message: impl FnMut(&mut dyn FnMut(&mut MessageHeader<'_>)),
    ) {
        // SAFETY: the set does not change until the iterator is destroyed. libnftnl stops at the
        // element that does not fit into the message and continues with it in the next.
        unsafe {
            let iterator = not_null(sys::nftnl_set_elems_iter_create(self.0.as_ptr()));
            let mut more = true;
            while more {
                message(&mut |header| {
                    let left =
                        sys::nftnl_set_elems_nlmsg_build_payload_iter(header.0, iterator.as_ptr());
                    more = left > 0;
                });
            }
            sys::nftnl_set_elems_iter_destroy(iterator.as_ptr());
        }
    }
}
