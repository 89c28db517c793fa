"""What a store costs as it grows: measured here at one size (`store_costs`), computed for others (`plan`)."""
