//! One field value and its type.

/// Type of a field, fixed per (measurement, field) by the first write. Its number is the same in all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// 64-bit float.
    Float = 0,
    /// Signed 64-bit integer.
    Int = 1,
    /// Unsigned 64-bit integer.
    UInt = 2,
    /// Boolean.
    Bool = 3,
    /// UTF-8 text.
    Str = 4,
}

impl FieldType {
    /// Reads the number written in a file; `None` for one this version does not know.
    pub fn from_u8(number: u8) -> Option<Self> {
        const ALL: [FieldType; 5] =
            [FieldType::Float, FieldType::Int, FieldType::UInt, FieldType::Bool, FieldType::Str];
        ALL.get(usize::from(number)).copied()
    }

    /// The name that InfluxDB's SHOW FIELD KEYS uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Int => "integer",
            Self::UInt => "unsigned",
            Self::Bool => "boolean",
            Self::Str => "string",
        }
    }

    /// Whether the field is seen by PromQL (booleans as 0 and 1).
    pub fn is_numeric(self) -> bool {
        self != Self::Str
    }
}

/// A field value that owns its text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// 64-bit float.
    Float(f64),
    /// Signed 64-bit integer.
    Int(i64),
    /// Unsigned 64-bit integer.
    UInt(u64),
    /// Boolean.
    Bool(bool),
    /// UTF-8 text.
    Str(String),
}

/// A field value that borrows its text from the request body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// 64-bit float.
    Float(f64),
    /// Signed 64-bit integer.
    Int(i64),
    /// Unsigned 64-bit integer.
    UInt(u64),
    /// Boolean.
    Bool(bool),
    /// Text as it is.
    Str(&'a str),
    /// Text that still carries the escapes of the batch's dialect; see [`Dialect::unescape`](super::Dialect).
    Escaped(&'a str),
}

impl ValueRef<'_> {
    /// The type a field gets when this is its first value.
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Int(_) => FieldType::Int,
            Self::UInt(_) => FieldType::UInt,
            Self::Bool(_) => FieldType::Bool,
            Self::Str(_) | Self::Escaped(_) => FieldType::Str,
        }
    }
}

impl Value {
    /// A borrowed view of the value.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Float(value) => ValueRef::Float(*value),
            Self::Int(value) => ValueRef::Int(*value),
            Self::UInt(value) => ValueRef::UInt(*value),
            Self::Bool(value) => ValueRef::Bool(*value),
            Self::Str(value) => ValueRef::Str(value),
        }
    }

    /// The type of the value.
    pub fn field_type(&self) -> FieldType {
        self.as_ref().field_type()
    }
}

macro_rules! value_from {
    ($($source:ty => $variant:ident as $target:ty),* $(,)?) => {
        $(impl From<$source> for Value {
            fn from(value: $source) -> Self {
                Self::$variant(<$target>::from(value))
            }
        })*
    };
}

value_from! {
    f64 => Float as f64, f32 => Float as f64, i64 => Int as i64, i32 => Int as i64,
    u64 => UInt as u64, u32 => UInt as u64, bool => Bool as bool, String => Str as String, &str => Str as String,
}
