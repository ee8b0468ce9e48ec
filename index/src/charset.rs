//! Specific Character Set (0008,0005), PS3.3 C.12.1.1.2: bytes to Unicode and back.
