// Glass, mirror and marble under a soft light; its own work, like the rest of the sample.
#version 3.7;
global_settings { assumed_gamma 1 max_trace_level 12 }

camera { location <0, 2.2, -6> look_at <0, 0.7, 0> angle 42 right x*image_width/image_height }
light_source {
  <-5, 8, -6> rgb 1.2
  area_light <2, 0, 0>, <0, 0, 2>, 9, 9 circular orient // no jitter: the same picture each time
}
sky_sphere { pigment { gradient y color_map { [0 rgb <0.9, 0.85, 0.8>] [1 rgb <0.25, 0.4, 0.8>] } } }

plane {
  y, 0
  pigment { checker rgb 0.9, rgb <0.2, 0.25, 0.3> }
  finish { reflection 0.1 diffuse 0.8 }
}
sphere {
  <-1.3, 0.9, 0.4>, 0.9
  pigment { rgb <0.9, 0.7, 0.3> }
  finish { metallic diffuse 0.3 specular 0.6 roughness 0.01 reflection { 0.6 metallic } }
}
sphere {
  <0.5, 0.7, -0.9>, 0.7
  pigment { rgbf <0.95, 1, 0.97, 0.95> }
  finish { specular 0.8 roughness 0.005 reflection { 0.05, 0.9 fresnel } conserve_energy }
  interior { ior 1.5 }
}
torus {
  0.8, 0.3
  rotate -65*x
  translate <1.6, 1, 1>
  pigment { marble turbulence 0.7 color_map { [0 rgb <0.75, 0.25, 0.2>] [1 rgb <1, 0.95, 0.9>] } scale 0.4 }
  finish { specular 0.3 }
}
