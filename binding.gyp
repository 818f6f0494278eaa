# Three targets: `memory` and `network` for every machine, and `verbs` where libibverbs is found. Built by addon/build.mjs.
{
  'variables': {
    # A sanitizer for the tests, as gcc's -fsanitize takes it, e.g. 'address,undefined'.
    'sanitize%': '',
    # Warnings are errors in this project's own builds, but must not keep a newer compiler from installing it.
    'strict%': 0,
    'has_verbs%': '<!(pkg-config --exists libibverbs 2>/dev/null && ls addon/verbs/*.cc >/dev/null 2>&1 && echo 1 || echo 0)',
    'node_addon_api': '<!(node -p "require(\'path\').dirname(require.resolve(\'node-addon-api\'))")',
    'common_sources': ['<!@(ls addon/common/*.cc)'],
  },
  'target_defaults': {
    'include_dirs': ['addon'],
    'defines': ['NAPI_VERSION=8', 'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED'],
    'cflags_cc!': ['-std=gnu++14', '-std=gnu++17', '-O3'],
    'cflags_cc': [
      '-std=gnu++20', '-O2', '-fno-exceptions', '-fvisibility=hidden', '-fvisibility-inlines-hidden',
      '-Wall', '-Wextra', '-Wpedantic', '-isystem', '<(node_addon_api)',
    ],
    'ldflags': ['-Wl,-z,relro,-z,now', '-Wl,--no-undefined-version'],
    'conditions': [
      ['strict==1', {'cflags_cc': ['-Werror']}],
      ['sanitize!=""', {
        'cflags_cc': ['-O1', '-fsanitize=<(sanitize)', '-fno-sanitize-recover=undefined', '-fno-omit-frame-pointer', '-g'],
        'ldflags': ['-fsanitize=<(sanitize)'],
      }],
    ],
  },
  'targets': [
    {
      'target_name': 'memory',
      'sources': ['<@(common_sources)', '<!@(ls addon/memory/*.cc)'],
    },
    {
      'target_name': 'network',
      'sources': ['<@(common_sources)', '<!@(ls addon/network/*.cc)'],
    },
  ],
  'conditions': [
    ['has_verbs==1', {
      'targets': [
        {
          'target_name': 'verbs',
          'sources': ['<@(common_sources)', '<!@(ls addon/verbs/*.cc)'],
          'cflags_cc': ['<!@(pkg-config --cflags libibverbs)'],
          'libraries': ['<!@(pkg-config --libs libibverbs)'],
        },
      ],
    }],
  ],
}
