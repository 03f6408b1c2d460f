package boincapi

import (
	"bytes"
	"regexp"
	"strings"
)

// minSecret is the length from which a secret is blanked wherever it occurs. A shorter one would also be
// found in numbers and tags.
const minSecret = 8

// maxRedactPasses bounds the work on files that were made to show new secrets where old ones are cut out.
const maxRedactPasses = 16

// secretTag finds start and end tags of elements that are nobody's business, however they are spaced:
// 1 is the slash of an end tag, 2 the name, 3 the slash of an empty element. The tag may be cut off by
// the end of the file.
var secretTag = regexp.MustCompile(`(?is)<\s*(/?)\s*(authenticator|user_name|team_name|http_user_name|http_user_passwd|` +
	`socks5_user_name|socks5_user_passwd)(?:\s[^>]*?)?\s*(/?)\s*(?:>|$)`)

// Redact returns an init_data.xml that may be shown to a job: the elements with the account key, the
// user's and team's names, and the proxies' user names and passwords are empty. Where the key or a
// password of 8 or more bytes occurs elsewhere, such as in project preferences, it is cut out. All
// else is as it was, byte for byte.
//
// From an element that does not end, nothing is kept to the end of the file.
func Redact(raw []byte) []byte {
	out := raw
	var secrets []string
	for range maxRedactPasses {
		var found []string
		next := emptySecretElements(out, &found)
		secrets = append(secrets, found...)
		secrets = append(secrets, parsedSecrets(out)...)
		for _, secret := range secrets {
			next = bytes.ReplaceAll(next, []byte(secret), nil)
		}
		if bytes.Equal(next, out) {
			return bytes.Clone(out)
		}
		out = next
	}
	return []byte("<app_init_data>\n</app_init_data>\n")
}

// parsedSecrets are the secrets as a reader of the file gets them, which may be another thing than what
// stands between the tags.
func parsedSecrets(raw []byte) []string {
	s := newScanner(raw)
	if t, err := s.next(); err != nil || !t.tag {
		return nil
	}
	var found InitData
	s.blockWith("app_init_data", found.fields(), func(string) error { return nil }) // as far as it can be read
	var secrets []string
	for _, secret := range []string{found.Authenticator, found.ProxyInfo.HTTPUserPasswd, found.ProxyInfo.SOCKS5UserPasswd} {
		if len(secret) >= minSecret {
			secrets = append(secrets, secret)
		}
	}
	return secrets
}

// emptySecretElements leaves the tags, without attributes, and adds keys and passwords to secrets.
func emptySecretElements(raw []byte, secrets *[]string) []byte {
	var out []byte
	for {
		m := secretTag.FindSubmatchIndex(raw)
		if m == nil {
			return append(out, raw...)
		}
		name := string(raw[m[4]:m[5]])
		before, tag, rest := raw[:m[0]], raw[m[0]:m[1]], raw[m[1]:]
		switch {
		case m[2] != m[3]: // an end tag alone: what is before it belongs to the element, if anything does
			text := before[bytes.LastIndexByte(before, '>')+1:]
			if len(bytes.TrimSpace(text)) > 0 {
				remember(secrets, name, text)
				before = before[:len(before)-len(text)]
			}
			out = append(append(append(out, before...), "</"+name...), '>')
		case m[6] != m[7]:
			out = append(append(append(out, before...), "<"+name...), "/>"...)
			remember(secrets, name, attributes(tag))
		default:
			content, after := elementContent(rest, name)
			remember(secrets, name, content)
			remember(secrets, name, attributes(tag))
			out = append(append(append(out, before...), "<"+name+"></"+name...), '>')
			rest = after
		}
		raw = rest
	}
}

// elementContent cuts rest at the end tag that belongs to the start tag before it.
func elementContent(rest []byte, name string) (content, after []byte) {
	depth := 1
	for _, m := range secretTag.FindAllSubmatchIndex(rest, -1) {
		switch {
		case !strings.EqualFold(name, string(rest[m[4]:m[5]])), m[6] != m[7]:
		case m[2] == m[3]:
			depth++
		default:
			depth--
		}
		if depth == 0 {
			return rest[:m[0]], rest[m[1]:]
		}
	}
	return rest, nil
}

func attributes(tag []byte) []byte {
	_, value, _ := bytes.Cut(tag, []byte("="))
	return bytes.TrimRight(value, "/> \t\r\n")
}

// remember adds the forms in which a key or a password may occur elsewhere. Names don't count: a user's
// name is often part of a path.
func remember(secrets *[]string, name string, text []byte) {
	name = strings.ToLower(name)
	if name != "authenticator" && !strings.HasSuffix(name, "_passwd") {
		return
	}
	value := strings.Trim(strings.TrimSpace(string(text)), `"'`)
	if inner, is := strings.CutPrefix(value, "<![CDATA["); is {
		value = strings.TrimSuffix(inner, "]]>")
	}
	for _, form := range []string{value, unescape(value), unescape(unescape(value))} {
		if len(form) >= minSecret && !strings.Contains(form, "<") {
			*secrets = append(*secrets, form)
		}
	}
}

// gpuNumber is how the client says which GPU a job may use.
var gpuNumber = regexp.MustCompile(`(?i)(<(gpu_device_num|gpu_opencl_dev_index)\s*>\s*)[0-9]+(\s*</)`)

// FirstGPU is an init_data.xml for an app that sees no GPU but those which it may use: they are numbered from 0 there.
func FirstGPU(raw []byte) []byte { return gpuNumber.ReplaceAll(raw, []byte("${1}0${3}")) }
