"""GLSL programs of the rasterizer: surfaces, sky, shadow map. Pattern numbers are those of `meshes`."""

VERTEX = """
#version 330
in vec3 position; in vec3 normal; in vec3 rest; in vec2 uv; in vec2 tags;
uniform mat4 view; uniform mat4 sun_view;
out vec3 world; out vec3 facing; out vec3 cloth; out vec2 place; out vec4 shade; flat out vec2 tag;
void main() {
  world = position; facing = normal; cloth = rest; place = uv; tag = tags;
  shade = sun_view * vec4(position, 1); gl_Position = view * vec4(position, 1);
}"""
FRAGMENT = """
#version 330
in vec3 world; in vec3 facing; in vec3 cloth; in vec2 place; in vec4 shade; flat in vec2 tag;
uniform sampler2D materials; uniform sampler2D picture; uniform sampler2DShadow shadow;
uniform vec3 eye; uniform vec3 sun; uniform vec3 sun_colour; uniform vec3 sky[9];
uniform vec3 lamp; uniform float ambient; uniform float depth_of_shade; uniform vec4 blinds; uniform int infrared;
out vec4 result;
float hash(vec3 p) { p = fract(p * .3183099 + .1); p *= 17.; return fract(p.x * p.y * p.z * (p.x + p.y + p.z)); }
float noise(vec3 x) {
  vec3 i = floor(x), f = fract(x); f = f * f * (3. - 2. * f); vec2 o = vec2(0, 1);
  return mix(mix(mix(hash(i), hash(i + o.yxx), f.x), mix(hash(i + o.xyx), hash(i + o.yyx), f.x), f.y),
             mix(mix(hash(i + o.xxy), hash(i + o.yxy), f.x), mix(hash(i + o.xyy), hash(i + o.yyy), f.x), f.y), f.z);
}
float band(float x, float duty) {  // antialiased stripes
  float w = clamp(fwidth(x), 1e-4, .5), p = fract(x);
  return smoothstep(duty - w, duty + w, p) * (1. - smoothstep(1. - w, 1., p) * .5);
}
void main() {
  int row = int(tag.x + .5);
  vec4 m0 = texelFetch(materials, ivec2(0, row), 0), m1 = texelFetch(materials, ivec2(1, row), 0);
  vec3 N = normalize(facing), V = normalize(eye - world);
  if (dot(N, V) < 0.) N = -N;
  vec3 albedo = m0.rgb;
#ifdef TEXTURED
  vec4 t = texture(picture, place);
  if (t.a < .4) discard;
  vec3 c = pow(t.rgb, vec3(2.2)); albedo *= infrared == 1 ? vec3(dot(c, vec3(.8, .15, .05))) : c;
#endif
  int kind = int(m1.w + .5);
  if (kind > 0) {
    vec4 m2 = texelFetch(materials, ivec2(2, row), 0), m3 = texelFetch(materials, ivec2(3, row), 0);
    vec3 second = texelFetch(materials, ivec2(4, row), 0).rgb; float duty = m2.w, k;
    if (kind == 1) k = band(dot(cloth, m2.xyz), duty);
    else if (kind == 2) k = .5 * band(dot(cloth, m2.xyz), duty) + .5 * band(dot(cloth, m3.xyz), duty);
    else if (kind == 3) { float s = length(m2.xyz);
      k = clamp((.65 * noise(cloth * s) + .35 * noise(cloth * s * 2.7) - .5) * 6. * duty + .5, 0., 1.); }
    else k = 1. - smoothstep(duty * .85, duty, length(cloth - m2.xyz));
    albedo = mix(albedo, second, k);
  }
  vec3 E = sky[0] * .282 + sky[1] * .488 * N.y + sky[2] * .488 * N.z + sky[3] * .488 * N.x + sky[4] * 1.092 * N.x * N.y
    + sky[5] * 1.092 * N.y * N.z + sky[6] * .315 * (3. * N.z * N.z - 1.) + sky[7] * 1.092 * N.x * N.z
    + sky[8] * .546 * (N.x * N.x - N.y * N.y);
  E = max(E, 0.) * ambient * mix(1., smoothstep(-.4, .6, world.y) * .85 + .15, depth_of_shade);
  vec3 s = shade.xyz / shade.w * .5 + .5; float lit = 0.;
  for (int i = 0; i < 2; i++) for (int j = 0; j < 2; j++)
    lit += .25 * texture(shadow, vec3(s.xy + (vec2(i, j) - .5) / 512., s.z - .004));
  if (blinds.w > 0.) lit *= smoothstep(-.15, .15, sin(dot(world, blinds.xyz)) + blinds.w - 1.);
  vec3 H = normalize(V + sun);
  float gloss = m0.w * pow(max(dot(N, H), 0.), 30.);
  vec3 light = albedo * E + (albedo * max(dot(N, sun), 0.) + gloss) * sun_colour * lit
    + m0.w * .15 * pow(1. - max(dot(N, V), 0.), 4.) * E;
  vec3 to_eye = eye - world; float far = dot(to_eye, to_eye);
  light += lamp * (albedo * max(dot(N, V), 0.) + m0.w * .4 * pow(max(dot(N, V), 0.), 40.)) / max(far, .05);
  result = vec4(light, tag.y);
}"""
SKY_VERTEX = (
    "#version 330\nin vec2 corner; out vec2 at; void main() { at = corner; gl_Position = vec4(corner, .99999, 1); }"
)
SKY_FRAGMENT = """
#version 330
in vec2 at; uniform sampler2D panorama; uniform mat4 inverse_view; uniform float gain; out vec4 result;
void main() {
  vec4 a = inverse_view * vec4(at, -1, 1), b = inverse_view * vec4(at, 1, 1);
  vec3 d = normalize(b.xyz / b.w - a.xyz / a.w);
  vec2 where = vec2(atan(d.z, d.x) / 6.2831853 + .5, acos(clamp(d.y, -1., 1.)) / 3.1415927);
  result = vec4(texture(panorama, where).rgb * gain, 0);
}"""
SHADOW_VERTEX = (
    "#version 330\nin vec3 position; uniform mat4 sun_view; void main() { gl_Position = sun_view * vec4(position, 1); }"
)
