//! The bookkeeping of C-STORE sub-operations: counters, final status and the list of failures, pure (PS3.4 C.4.2.1).
