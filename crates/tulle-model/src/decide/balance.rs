//! Picking of endpoints: placeholder
