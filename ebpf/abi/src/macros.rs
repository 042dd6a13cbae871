//! How a shared type is declared.

/// Declares a `#[repr(C)]` struct that both sides may read: no padding, alignment of at most 8, every
/// bit pattern valid. Its layout is listed by [`crate::layout::all`].
macro_rules! abi_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }

        const _: () = {
            let fields = 0 $(+ size_of::<$ty>())*;
            assert!(size_of::<$name>() == fields, concat!(stringify!($name), " has padding: name it in a field"));
            assert!(align_of::<$name>() <= 8, concat!(stringify!($name), " is aligned to more than 8 bytes"));
        };

        impl $name {
            /// Name, size and fields of this type, in order.
            pub const LAYOUT: $crate::layout::Layout = $crate::layout::Layout {
                name: stringify!($name),
                size: size_of::<$name>(),
                fields: &[$($crate::layout::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($name, $field),
                    size: size_of::<$ty>(),
                },)*],
            };

            /// All bytes zero.
            pub const fn zeroed() -> Self {
                Self { $($field: <$ty as $crate::macros::Zero>::ZERO,)* }
            }
        }

        impl $crate::macros::Zero for $name {
            const ZERO: Self = Self::zeroed();
        }

        impl Default for $name {
            fn default() -> Self {
                Self::zeroed()
            }
        }

        #[cfg(feature = "user")]
        #[expect(unsafe_code, reason = "the one place that promises a type is plain bytes")]
        // SAFETY: repr(C), no padding (asserted above), fields are integers, arrays or abi structs, so
        // every bit pattern is a value.
        unsafe impl aya::Pod for $name {}
    };
}

/// The all-zero value of a type that may stand in an abi struct.
pub(crate) trait Zero {
    /// Every byte zero.
    const ZERO: Self;
}

macro_rules! zero {
    ($($ty:ty),*) => { $(impl Zero for $ty { const ZERO: Self = 0; })* };
}
zero!(u8, u16, u32, u64);

impl<T: Zero + Copy, const N: usize> Zero for [T; N] {
    const ZERO: Self = [T::ZERO; N];
}
