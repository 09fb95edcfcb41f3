//! Objects of libnftnl, owned and borrowed. All that this crate does with their memory is here.
//!
//! libnftnl keeps copies of what is set and owns what it hands out. Attributes are numbers; a
//! value of the wrong length for one makes it abort or read too far, so attributes are only
//! named in the files beside this one, each with the type that the header gives it
//! (libnftnl/{table,chain,set,rule,expr}.h).
#![allow(unsafe_code, reason = "libnftnl is a C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use nftnl::nftnl_sys as sys;
use sys::libc::nlmsghdr;

/// A type of libnftnl's whose values are made, filled, asked and freed by functions of one form.
///
/// # Safety
/// The functions must be those of this type: `set` copies `length` bytes, `get` answers with a
/// pointer that is good until the object changes, or null, and the length behind it.
pub(super) unsafe trait Kind {
    unsafe fn free(raw: NonNull<Self>);
    unsafe fn set(raw: NonNull<Self>, attribute: u16, data: *const c_void, length: u32);
    unsafe fn get(raw: NonNull<Self>, attribute: u16, length: &mut u32) -> *const c_void;
    unsafe fn is_set(raw: NonNull<Self>, attribute: u16) -> bool;
}

/// A kind that can stand alone and has a message of its own.
///
/// # Safety
/// As [`Kind`]: `build` writes no more than the longest message, `parse` reads one message.
pub(super) unsafe trait Message: Kind {
    unsafe fn alloc() -> *mut Self;
    unsafe fn build(header: *mut nlmsghdr, raw: NonNull<Self>);
    unsafe fn parse(header: *const nlmsghdr, raw: NonNull<Self>) -> c_int;
}

/// An object that is ours.
pub(super) struct Object<T: Kind>(NonNull<T>);

/// An object that is part of another.
pub(super) struct Part<'a, T: Kind>(NonNull<T>, PhantomData<&'a T>);

impl<T: Kind> Drop for Object<T> {
    fn drop(&mut self) {
        // SAFETY: ours, made by `alloc` of its kind, and freed nowhere else.
        unsafe { T::free(self.0) }
    }
}

impl<T: Message> Object<T> {
    pub(super) fn new() -> Self {
        // SAFETY: takes nothing; null is looked for.
        Self(not_null(unsafe { T::alloc() }))
    }

    /// The object that a message tells of.
    pub(super) fn parse(message: &Aligned<'_>) -> Option<Self> {
        let object = Self::new();
        // SAFETY: `Aligned` is a whole message, its length within its bytes, where a header may
        // stand; the object is a new one of this kind.
        let parsed = unsafe { T::parse(message.header(), object.0) };
        (parsed >= 0).then_some(object)
    }

    /// Writes the attributes into a message.
    pub(super) fn build(&self, header: &mut Header<'_>) {
        // SAFETY: `Header` has room for the longest message behind it.
        unsafe { T::build(header.0, self.0) }
    }
}

impl<T: Kind> Object<T> {
    pub(super) fn u8(self, attribute: u32, value: u8) -> Self {
        self.bytes(attribute, &[value])
    }

    pub(super) fn u32(self, attribute: u32, value: u32) -> Self {
        self.bytes(attribute, &value.to_ne_bytes())
    }

    pub(super) fn u64(self, attribute: u32, value: u64) -> Self {
        self.bytes(attribute, &value.to_ne_bytes())
    }

    /// A string; what follows a NUL is left out.
    pub(super) fn text(self, attribute: u32, value: &str) -> Self {
        let bytes: Vec<u8> = value.bytes().take_while(|byte| *byte != 0).collect();
        let text = CString::new(bytes).unwrap_or_default();
        self.bytes(attribute, text.as_bytes_with_nul())
    }

    /// Bytes of the length that the attribute has, or of any if it is one of data.
    pub(super) fn bytes(self, attribute: u32, value: &[u8]) -> Self {
        let (Ok(attribute), Ok(length)) = (u16::try_from(attribute), u32::try_from(value.len()))
        else {
            return self;
        };
        // SAFETY: copies `length` bytes out of `value`, which has as many.
        unsafe { T::set(self.0, attribute, value.as_ptr().cast(), length) };
        self
    }

    pub(super) fn borrow(&self) -> Part<'_, T> {
        Part(self.0, PhantomData)
    }
}

impl<'a, T: Kind> Part<'a, T> {
    pub(super) fn get_u32(&self, attribute: u32) -> Option<u32> {
        self.get(attribute)?.try_into().ok().map(u32::from_ne_bytes)
    }

    pub(super) fn get_u64(&self, attribute: u32) -> Option<u64> {
        self.get(attribute)?.try_into().ok().map(u64::from_ne_bytes)
    }

    pub(super) fn get_u8(&self, attribute: u32) -> Option<u8> {
        self.get(attribute)?.first().copied()
    }

    /// A string, if it is UTF-8.
    pub(super) fn get_text(&self, attribute: u32) -> Option<&'a str> {
        let raw = self.pointer(attribute)?.0;
        // SAFETY: what is asked for is an attribute that libnftnl keeps as a string with its NUL.
        unsafe { CStr::from_ptr(raw.cast::<c_char>()) }.to_str().ok()
    }

    /// The bytes of an attribute that is there.
    pub(super) fn get(&self, attribute: u32) -> Option<&'a [u8]> {
        let (raw, length) = self.pointer(attribute)?;
        // SAFETY: the object keeps so many bytes there and outlives the borrow; nothing changes
        // it meanwhile, for a `Part` gives no way to.
        Some(unsafe { std::slice::from_raw_parts(raw.cast(), length) })
    }

    pub(super) fn has(&self, attribute: u32) -> bool {
        let Ok(attribute) = u16::try_from(attribute) else { return false };
        // SAFETY: only looks.
        unsafe { T::is_set(self.0, attribute) }
    }

    fn pointer(&self, attribute: u32) -> Option<(*const c_void, usize)> {
        if !self.has(attribute) {
            return None;
        }
        let mut length = 0;
        // SAFETY: only looks.
        let raw = unsafe { T::get(self.0, u16::try_from(attribute).ok()?, &mut length) };
        (!raw.is_null()).then_some((raw, usize::try_from(length).ok()?))
    }
}

/// Out of memory there is no way on, as everywhere in Rust.
fn not_null<T>(raw: *mut T) -> NonNull<T> {
    NonNull::new(raw)
        .unwrap_or_else(|| std::alloc::handle_alloc_error(std::alloc::Layout::new::<nlmsghdr>()))
}

/// A message that is being written, with room for the longest there can be.
pub(super) struct Header<'a>(*mut nlmsghdr, PhantomData<&'a mut nlmsghdr>);

/// Where one message is written before it goes to the others: as long as
/// [`nftnl::nft_nlmsg_maxsize`] with the largest pages there are.
#[repr(C, align(8))]
pub(super) struct Scratch([u8; Self::SIZE]);

impl Scratch {
    const SIZE: usize = (1 << 16) + (1 << 16);

    pub(super) fn new() -> Box<Self> {
        Box::new(Self([0; Self::SIZE]))
    }

    /// Writes a message and gives its bytes.
    pub(super) fn write(
        &mut self,
        kind: u16,
        family: u16,
        flags: u16,
        sequence: u32,
        body: impl FnOnce(&mut Header<'_>),
    ) -> &[u8] {
        let start = self.0.as_mut_ptr().cast::<c_char>();
        // SAFETY: the scratch is aligned for a header and longer than one.
        let raw = unsafe { sys::nftnl_nlmsg_build_hdr(start, kind, family, flags, sequence) };
        body(&mut Header(raw, PhantomData));
        self.written()
    }

    /// Writes the message that begins (NFNL_MSG_BATCH_BEGIN) or ends a batch.
    pub(super) fn write_bound(
        &mut self,
        begins: bool,
        sequence: u32,
        body: impl FnOnce(&mut Header<'_>),
    ) -> &[u8] {
        let start = self.0.as_mut_ptr().cast::<c_char>();
        // SAFETY: as in `write`.
        let raw = unsafe {
            match begins {
                true => sys::nftnl_batch_begin(start, sequence),
                false => sys::nftnl_batch_end(start, sequence),
            }
        };
        body(&mut Header(raw, PhantomData));
        self.written()
    }

    fn written(&self) -> &[u8] {
        let [a, b, c, d, ..] = self.0;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or_default();
        self.0.get(..length).unwrap_or_default()
    }
}

impl Header<'_> {
    /// Adds a number in the byte order of the network.
    pub(super) fn be32(&mut self, attribute: u16, value: u32) {
        // SAFETY: the header has room behind it.
        unsafe { mnl::mnl_sys::mnl_attr_put_u32(self.0, attribute, value.to_be()) }
    }

    /// Adds a string.
    pub(super) fn text(&mut self, attribute: u16, value: &str) {
        let text = CString::new(value).unwrap_or_default();
        // SAFETY: as above; the string ends in a NUL.
        unsafe { mnl::mnl_sys::mnl_attr_put_strz(self.0, attribute, text.as_ptr()) }
    }
}

/// A whole message as it was received.
pub(super) struct Aligned<'a>(&'a [u8]);

impl<'a> Aligned<'a> {
    /// `None` if the bytes are no message or stand where no header may.
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

/// The functions of a type of libnftnl's.
macro_rules! kind {
    ($kind:ident, $free:ident, $set:ident, $get:ident, $is_set:ident) => {
        // SAFETY: the functions of this very type.
        unsafe impl Kind for sys::$kind {
            unsafe fn free(raw: NonNull<Self>) {
                // SAFETY: what the caller promises is what the function asks for.
                unsafe { sys::$free(raw.as_ptr()) }
            }
            unsafe fn set(raw: NonNull<Self>, attribute: u16, data: *const c_void, length: u32) {
                // SAFETY: what the caller promises is what the function asks for.
                unsafe { sys::$set(raw.as_ptr(), attribute, data, length) };
            }
            unsafe fn get(raw: NonNull<Self>, attribute: u16, length: &mut u32) -> *const c_void {
                // SAFETY: what the caller promises is what the function asks for.
                unsafe { sys::$get(raw.as_ptr(), attribute, length) }
            }
            unsafe fn is_set(raw: NonNull<Self>, attribute: u16) -> bool {
                // SAFETY: what the caller promises is what the function asks for.
                unsafe { sys::$is_set(raw.as_ptr(), attribute) }
            }
        }
    };
}

/// The functions that make, write and read one of them.
macro_rules! message {
    ($kind:ident, $alloc:ident, $build:ident, $parse:ident) => {
        // SAFETY: the functions of this very type.
        unsafe impl Message for sys::$kind {
            unsafe fn alloc() -> *mut Self {
                // SAFETY: what the caller promises is what the function asks for.
                unsafe { sys::$alloc() }
            }
            unsafe fn build(header: *mut nlmsghdr, raw: NonNull<Self>) {
                // SAFETY: what the caller promises is what the function asks for.
                unsafe { sys::$build(header, raw.as_ptr()) }
            }
            unsafe fn parse(header: *const nlmsghdr, raw: NonNull<Self>) -> c_int {
                // SAFETY: what the caller promises is what the function asks for.
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
pub(super) type RawExpression = Object<sys::nftnl_expr>;

impl Object<sys::nftnl_expr> {
    pub(super) fn named(name: &CStr) -> Self {
        // SAFETY: a string with its NUL; null is looked for. libnftnl knows the names in use
        // here since 1.1.
        Self(not_null(unsafe { sys::nftnl_expr_alloc(name.as_ptr()) }))
    }

    /// Gives it away.
    fn into_raw(self) -> *mut sys::nftnl_expr {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }
}

impl Object<sys::nftnl_rule> {
    pub(super) fn expression(self, expression: RawExpression) -> Self {
        // SAFETY: both are whole; the rule owns the expression from here on.
        unsafe { sys::nftnl_rule_add_expr(self.0.as_ptr(), expression.into_raw()) };
        self
    }

    /// What is made of each expression, from first to last.
    pub(super) fn expressions<R>(&self, read: impl Fn(Part<'_, sys::nftnl_expr>) -> R) -> Vec<R> {
        let mut all = Vec::new();
        // SAFETY: the rule stays as it is until the iterator is destroyed below; the iterator
        // gives its expressions, then null.
        unsafe {
            let iterator = not_null(sys::nftnl_expr_iter_create(self.0.as_ptr()));
            while let Some(raw) = NonNull::new(sys::nftnl_expr_iter_next(iterator.as_ptr())) {
                all.push(read(Part(raw, PhantomData)));
            }
            sys::nftnl_expr_iter_destroy(iterator.as_ptr());
        }
        all
    }
}

/// An element of a set.
pub(super) type RawElement = Object<sys::nftnl_set_elem>;

impl Object<sys::nftnl_set_elem> {
    pub(super) fn element() -> Self {
        // SAFETY: takes nothing; null is looked for.
        Self(not_null(unsafe { sys::nftnl_set_elem_alloc() }))
    }
}

impl Part<'_, sys::nftnl_set_elem> {
    /// What is made of each expression of an element.
    pub(super) fn expressions<R>(&self, read: impl Fn(&Part<'_, sys::nftnl_expr>) -> R) -> Vec<R> {
        listed(read, |list| {
            // SAFETY: calls `note` with each expression and the list, and returns.
            unsafe { sys::nftnl_set_elem_expr_foreach(self.0.as_ptr(), Some(note), list) };
        })
    }
}

/// What is made of each expression that `each` puts on a list; they must outlive the call.
fn listed<R>(
    read: impl Fn(&Part<'_, sys::nftnl_expr>) -> R,
    each: impl FnOnce(*mut c_void),
) -> Vec<R> {
    let mut found: Vec<*mut sys::nftnl_expr> = Vec::new();
    let list: *mut Vec<_> = &raw mut found;
    each(list.cast());
    let parts = found.into_iter().filter_map(NonNull::new);
    parts.map(|raw| read(&Part(raw, PhantomData))).collect()
}

/// Puts an expression on a list.
///
/// # Safety
/// `list` is a `Vec` of such expressions that nothing else uses meanwhile.
unsafe extern "C" fn note(expression: *mut sys::nftnl_expr, list: *mut c_void) -> c_int {
    // SAFETY: as above.
    let list = unsafe { &mut *list.cast::<Vec<*mut sys::nftnl_expr>>() };
    list.push(expression);
    0
}

impl Object<sys::nftnl_set> {
    /// Has each element get an expression of its own.
    pub(super) fn expression(self, expression: RawExpression) -> Self {
        // SAFETY: both are whole; the set owns the expression from here on.
        unsafe { sys::nftnl_set_add_expr(self.0.as_ptr(), expression.into_raw()) };
        self
    }

    /// What is made of each of these expressions.
    pub(super) fn expressions<R>(&self, read: impl Fn(&Part<'_, sys::nftnl_expr>) -> R) -> Vec<R> {
        listed(read, |list| {
            // SAFETY: calls `note` with each expression and the list, and returns.
            unsafe { sys::nftnl_set_expr_foreach(self.0.as_ptr(), Some(note), list) };
        })
    }

    pub(super) fn add(&mut self, element: RawElement) {
        let raw = element.0.as_ptr();
        std::mem::forget(element);
        // SAFETY: both are whole; the set owns the element from here on.
        unsafe { sys::nftnl_set_elem_add(self.0.as_ptr(), raw) }
    }

    /// The elements that a message tells of, each made into something.
    pub(super) fn elements<R>(
        message: &Aligned<'_>,
        mut read: impl FnMut(Part<'_, sys::nftnl_set_elem>) -> R,
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
                all.push(read(Part(raw, PhantomData)));
            }
            sys::nftnl_set_elems_iter_destroy(iterator.as_ptr());
        }
        Some(all)
    }

    /// Writes the elements into as many messages as they need. `message` writes one, with the
    /// body that it is given.
    pub(super) fn write_elements(&self, mut message: impl FnMut(&mut dyn FnMut(&mut Header<'_>))) {
        // SAFETY: the set stays as it is until the iterator is destroyed; libnftnl stops at the
        // element that no longer fits into a message and goes on there with the next.
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
