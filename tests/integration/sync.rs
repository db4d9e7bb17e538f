//! Delta synchronisation of devices.
