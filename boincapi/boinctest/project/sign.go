package project

import (
	"crypto"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"strings"
)

const keyBits = 1024 // the only size that clients know: MAX_RSA_MODULUS_BITS in BOINC's lib/crypt.h

func newKey() (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("make the key that signs code: %w", err)
	}
	return key, nil
}

// sum is a file's checksum as clients have it.
func sum(data []byte) string {
	m := md5.Sum(data)
	return hex.EncodeToString(m[:])
}

// sign signs data: RSA with PKCS #1 padding over the MD5 in hexadecimal, without the name of a hash.
//
// Source: sign_file in BOINC's lib/crypt.cpp.
func sign(key *rsa.PrivateKey, data []byte) (string, error) {
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.Hash(0), []byte(sum(data)))
	if err != nil {
		return "", fmt.Errorf("sign a file: %w", err)
	}
	return hexText(signature), nil
}

// publicText is the public key in the text form that clients read: the number of bits, then modulus
// and exponent, each as long as the modulus.
//
// Source: print_key_hex in BOINC's lib/crypt.cpp.
func publicText(key *rsa.PublicKey) string {
	b := make([]byte, 2*keyBits/8)
	key.N.FillBytes(b[:keyBits/8])
	for i, e := len(b)-1, key.E; e > 0; i, e = i-1, e>>8 {
		b[i] = byte(e)
	}
	return fmt.Sprintf("%d\n%s", keyBits, hexText(b))
}

// hexText is BOINC's form of binary data: lines of 32 bytes, then a line with a full stop.
func hexText(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(len(b), 32)
		s.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return s.String() + ".\n"
}
