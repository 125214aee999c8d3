"""Keys and seals.

*KEK*: the key-encryption key, from a key file or a passphrase; never stored with the data. *Root*: the secret of one
90-day epoch, wrapped by the KEK; every object's own key is derived from it. *Seal*: AES-256-GCM over one frame, bound
by its additional data to the place where it belongs. *Commitment*: 32 bytes that tell a wrong key from a damaged
object.
"""
