package boincapi

import (
	"bytes"
	"strings"
	"testing"
)

func TestRedactVector(t *testing.T) {
	raw := readVector(t, "init_data_example_unix.xml")
	want := string(raw)
	for _, secret := range []string{"0123456789abcdef", "Jos&#195;&#169; &lt;&amp;> x", "a]]&gt;b&#9;c"} {
		want = strings.Replace(want, ">"+secret+"<", "><", 1)
	}
	got := Redact(raw)
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if again := Redact(got); !bytes.Equal(again, got) {
		t.Errorf("redacted twice: got %s\nwant %s", again, got)
	}
}

func TestRedact(t *testing.T) {
	const key = "0123456789abcdef"
	for _, c := range []struct{ name, body, want string }{
		{"proxy", "<http_user_name>joe</http_user_name><http_user_passwd>pw</http_user_passwd><http_server_name>h</http_server_name>",
			"<http_user_name></http_user_name><http_user_passwd></http_user_passwd><http_server_name>h</http_server_name>"},
		{"SOCKS", "<socks5_user_name>joe</socks5_user_name><socks5_user_passwd>pw</socks5_user_passwd>",
			"<socks5_user_name></socks5_user_name><socks5_user_passwd></socks5_user_passwd>"},
		{"key in preferences", "<project_preferences>\n<k>x" + key + "y</k>\n</project_preferences><authenticator>" + key + "</authenticator>",
			"<project_preferences>\n<k>xy</k>\n</project_preferences><authenticator></authenticator>"},
		{"key in a comment", "<!-- " + key + " --><authenticator>" + key + "</authenticator>", "<!--  --><authenticator></authenticator>"},
		{"element in a comment", "<!-- <authenticator>" + key + "</authenticator> -->", "<!-- <authenticator></authenticator> -->"},
		{"twice", "<authenticator>a</authenticator><slot>1</slot><authenticator>b</authenticator>",
			"<authenticator></authenticator><slot>1</slot><authenticator></authenticator>"},
		{"odd spacing", "< authenticator\n>" + key + "< / authenticator >", "<authenticator></authenticator>"},
		{"capitals", "<AUTHENTICATOR>" + key + "</Authenticator>", "<AUTHENTICATOR></AUTHENTICATOR>"},
		{"attribute", `<authenticator key="` + key + `"/>` + key, "<authenticator/>"},
		{"within itself", "<authenticator><authenticator>a</authenticator>b</authenticator>c", "<authenticator></authenticator>c"},
		{"end tag in a comment", "<authenticator><!-- </authenticator> -->" + key + "</authenticator>", "<authenticator></authenticator> --></authenticator>"},
		{"CDATA", "<authenticator><![CDATA[" + key + "]]></authenticator>" + key, "<authenticator></authenticator>"},
		{"escaped password elsewhere", "<http_user_passwd>long&amp;word</http_user_passwd><no_proxy>long&word long&amp;word</no_proxy>",
			"<http_user_passwd></http_user_passwd><no_proxy> </no_proxy>"},
		{"end tag alone", "<slot>1</slot>" + key + "</authenticator>", "<slot>1</slot></authenticator>"},
		{"key that cutting puts together", "<authenticator>" + key + "</authenticator>0123" + key + "456789abcdef", "<authenticator></authenticator>"},
		{"element that cutting puts together", "<authenticator>" + key + "</authenticator><authen" + key + "ticator>another secret</authenticator>",
			"<authenticator></authenticator><authenticator></authenticator>"},
		{"user's name in a path stays", "<user_name>joe</user_name><boinc_dir>/home/joe</boinc_dir>", "<user_name></user_name><boinc_dir>/home/joe</boinc_dir>"},
		{"a short password does not take the digits out of numbers", "<http_user_passwd>12</http_user_passwd><slot>12</slot>",
			"<http_user_passwd></http_user_passwd><slot>12</slot>"},
		{"similar name stays", "<authenticators>a</authenticators>", "<authenticators>a</authenticators>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := string(Redact([]byte("<app_init_data>\n" + c.body + "\n</app_init_data>\n")))
			if want := "<app_init_data>\n" + c.want + "\n</app_init_data>\n"; got != want {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

func TestRedactTruncated(t *testing.T) {
	raw := []byte("<app_init_data>\n<slot>1</slot>\n<authenticator>0123456789abcdef</authenticator>\n")
	start, end := bytes.Index(raw, []byte("0123")), bytes.Index(raw, []byte("</auth"))
	for n := start + 1; n < len(raw); n++ {
		got := Redact(raw[:n])
		if secret := raw[start:min(n, end)]; bytes.Contains(got[bytes.Index(got, []byte("<auth")):], secret) {
			t.Errorf("cut after %d bytes: got %q, want nothing of %q", n, got, secret)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add(readVector(f, "init_data_example_unix.xml"))
	f.Add([]byte("<app_init_data><authenticator x='0'>012345678</authenticator>012345678</app_init_data>"))
	f.Add([]byte("<app_init_data><http_user_passwd><!-- </http_user_passwd> -->012345678</http_user_passwd></app_init_data>"))
	f.Add([]byte("<app_init_data><project_preferences><authenticator>012345678</authenticator></project_preferences></app_init_data>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := Redact(b)
		secrets := func(d InitData) []string {
			return []string{d.Authenticator, d.ProxyInfo.HTTPUserPasswd, d.ProxyInfo.SOCKS5UserPasswd}
		}
		if before, err := ParseInitData(bytes.NewReader(b)); err == nil {
			for _, secret := range secrets(before) {
				if len(secret) >= minSecret && bytes.Contains(got, []byte(secret)) {
					t.Errorf("got %q, want no %q in it", got, secret)
				}
			}
		}
		if after, err := ParseInitData(bytes.NewReader(got)); err == nil {
			p := after.ProxyInfo
			if s := strings.Join(secrets(after), "") + after.UserName + after.TeamName + p.HTTPUserName + p.SOCKS5UserName; s != "" {
				t.Errorf("a reader still finds %q in %q", s, got)
			}
		}
	})
}
